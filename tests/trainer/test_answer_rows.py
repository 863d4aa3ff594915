"""Samples with a preference as rows: what carries loss, what is left out and why, how they stand in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from shardkit.records.sample import Message, Preference, Sample
from tests.trainer.answers import PREFERENCES, asked, batch_of, conversation, learn, teaching, text_model
from trainer.data.collate import IGNORED, TrainBatch, collate, collate_packs
from trainer.data.media import Senses, Unfit, load_media
from trainer.data.reading import encode_item
from trainer.data.tokenise import Speech
from trainer.losses.language import LanguageLoss
from trainer.losses.sft import SftLoss
from trainer.losses.table import LOSSES, make_loss
from trainer.spec import LossSpec

SENSES = Senses(image_size=32, image_latents=2)


def answers(speech: Speech, batch: TrainBatch) -> list[str]:
    return [speech.tokenizer.decode(row[row != IGNORED]) for row in batch.labels]


def test_pairs_alternate_and_only_the_answers_carry_loss() -> None:
    speech = teaching("pairs")
    batch = batch_of(speech, PREFERENCES[:2])
    assert answers(speech, batch) == ["red<|end|>", "a blue one<|end|>", "blue as can be<|end|>", "green<|end|>"]
    assert batch.wanted is not None and batch.wanted.tolist() == [True, False, True, False]
    assert batch.owners is not None and batch.owners.tolist() == [0, 0, 1, 1]
    assert (batch.keys, batch.kinds, batch.sources) == (("0", "1"), ("text", "text"), ("s", "s"))


def test_earlier_answers_of_a_conversation_are_prompt() -> None:
    speech = teaching("pairs")
    turns = (("user", "sky"), ("assistant", "blue"), ("user", "Which one?"))
    for more in ((), (("assistant", "an answer of its own"),)):
        sample = msgspec.structs.replace(
            conversation(*turns, *more), preference=Preference(chosen="red", rejected="green")
        )
        batch = batch_of(speech, [sample])
        assert answers(speech, batch) == ["red<|end|>", "green<|end|>"]
        assert speech.tokenizer.decode(batch.ids[0][batch.attention[0]]) == (
            "<|user|>sky<|end|><|assistant|>blue<|end|><|user|>Which one?<|end|><|assistant|>red<|end|>"
        )


@pytest.mark.parametrize(
    ("teaches", "sample", "reason"),
    [
        ("pairs", conversation(("user", "a"), ("assistant", "b")), "no-preference"),
        ("feedback", conversation(("user", "a"), ("assistant", "b")), "no-preference"),
        ("pairs", asked("a", "b", ""), "unpaired"),
        ("pairs", asked("a", "", "b"), "unpaired"),
        ("feedback", asked("a", "", ""), "unpaired"),
        ("pairs", msgspec.structs.replace(asked("a", "b", "c"), messages=()), "no-prompt"),
        ("pairs", asked("a", "b", "green " * 60), "too-long"),
        ("pairs", asked("a", "green " * 60, "b"), "too-long"),
        ("feedback", asked("a", "green " * 60, "b"), "too-long"),
        ("answers", asked("a", "b", "c"), "unlabelled"),
        ("text", msgspec.structs.replace(asked("a", "b", "c"), messages=()), "unlabelled"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_a_reason(
    teaches: Any, sample: Sample, reason: str, item: Callable[..., Any]
) -> None:
    speech = teaching(teaches)
    one = item()
    one.sample = sample
    with pytest.raises(Unfit) as caught:
        encode_item(one, speech, Senses(), 64)
    assert str(caught.value) == reason


def test_media_of_the_prompt_are_shown_with_both_answers(item: Callable[..., Any]) -> None:
    speech = teaching("pairs")
    seen = item(("user", "<|image|>Which one?"), images=1)
    sample = msgspec.structs.replace(seen.sample, preference=Preference(chosen="red", rejected="blue"))
    row = speech.encode(sample, load_media(seen, SENSES), SENSES, 100)
    batch = collate([("k", row)], SENSES, speech.pad_id)
    assert len(batch.images) == 2 and torch.equal(batch.images[0], batch.images[1])
    assert (batch.ids == speech.places["image"]).sum(dim=1).tolist() == [2, 2]
    assert batch.kinds == ("image",)


def test_a_batch_of_answers_keeps_its_marks_on_its_way_to_a_device() -> None:
    batch = batch_of(teaching("pairs"), PREFERENCES).to(torch.device("cpu"))
    assert batch.wanted is not None and batch.owners is not None


def test_every_loss_says_what_it_teaches() -> None:
    assert {name: make_loss(LossSpec(name=name)).teaches for name in LOSSES if name != "distil"} == {  # type: ignore[arg-type]
        "sft": "answers", "language": "text", "dpo": "pairs", "ipo": "pairs", "simpo": "pairs", "orpo": "pairs",
        "kto": "feedback", "contrastive": "answers", "fusion": "answers",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sft", "language"])
def test_a_batch_of_text_is_overfitted(name: Any) -> None:
    loss = make_loss(LossSpec(name=name))
    speech = teaching(loss.teaches)
    batch = batch_of(
        speech, [conversation(("user", "Which one?"), ("assistant", "red")), conversation(("assistant", "0"))]
    )
    found = learn(text_model(speech), loss, batch, 50)
    assert found[-1][0] < 0.2 * found[0][0]


def test_the_language_loss_counts_every_token_behind_the_first_packed_or_not() -> None:
    speech, samples = (
        teaching("text"),
        [conversation(("user", "sky"), ("assistant", "blue")), conversation(("user", "a"))],
    )
    model, loss = text_model(speech), LanguageLoss(LossSpec(name="language"))
    rows = [(str(at), speech.encode(sample, (), Senses(), 50)) for at, sample in enumerate(samples)]
    lengths = [len(row.ids) for _, row in rows]
    apart, packed = batch_of(speech, samples), collate_packs([rows], Senses(), speech.pad_id)
    for batch in (apart, packed):
        assert float(loss.weight(batch)) == sum(lengths) - 2
    assert float(loss(model, packed)[0].detach()) == pytest.approx(float(loss(model, apart)[0].detach()), rel=1e-5)


def test_samples_with_a_preference_and_an_answer_are_learnt_from_as_before() -> None:
    """An SFT run reads the conversation and leaves the compared answers alone."""
    plain = Sample(
        id="x", messages=(Message(role="user", content="a"), Message(role="assistant", content="b")),
        domain="d", category="c", source="s",
    )  # fmt: skip
    speech = teaching("answers")
    compared = msgspec.structs.replace(plain, preference=Preference(chosen="c", rejected="d"))
    assert speech.encode(plain, (), Senses(), 50) == speech.encode(compared, (), Senses(), 50)
    assert SftLoss.teaches == "answers"
