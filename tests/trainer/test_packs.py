"""Packed rows train as their samples do one by one: the same losses, and no token sees a neighbour."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from shardkit import Cost, SpecError
from tests.trainer.conftest import FakeItem
from trainer.data.collate import IGNORED, Row, TrainBatch, collate, collate_packs
from trainer.data.media import Undecodable
from trainer.data.packs import cost_of, decode_media, to_pack
from trainer.data.reading import encode_item
from trainer.data.tokenise import Encoded, Speech
from trainer.losses.parts import LossParts
from trainer.losses.sft import SftLoss, answer_weights
from trainer.model.isolation import check_isolation
from trainer.model.omni import Omni
from trainer.spec import LossSpec, ModelSpec, PackSpec, load_run

WEIGHTINGS = ("token", "square", "sample")


@dataclass
class Packs:
    """A model and packs of samples of all kinds for it."""

    model: Omni
    speech: Speech
    packs: list[list[Row]]

    @property
    def rows(self) -> list[Row]:
        return [row for pack in self.packs for row in pack]

    def collate(self, packs: Sequence[Sequence[Row]]) -> TrainBatch:
        return collate_packs(packs, self.model.senses, self.speech.pad_id)

    def alone(self, row: Row) -> TrainBatch:
        return collate([row], self.model.senses, self.speech.pad_id)


@pytest.fixture
def made(tiny_spec: ModelSpec, speech: Speech, item: Callable[..., FakeItem]) -> Packs:
    torch.manual_seed(0)
    spec = msgspec.structs.replace(
        tiny_spec,
        language=msgspec.structs.replace(
            tiny_spec.language, config={**tiny_spec.language.config, "num_hidden_layers": 2, "initializer_range": 0.3}
        ),
    )
    model = Omni(spec, speech).eval()
    items = [
        item(("user", "What colour?"), ("assistant", "red"), key="a0"),
        item(("user", "<|image|> and <|image|>?"), ("assistant", "green blue"), images=2, key="a1"),
        item(("user", "say"), ("assistant", "def main(): return 0 1 2 3"), key="a2"),
        item(("user", "<|audio|>"), ("assistant", "1 2"), sounds=1, key="a3"),
        item(("user", "<|video|>"), ("assistant", "3"), frames=2, track=True, key="a4"),
        item(("user", "<|image|>"), ("assistant", "button"), images=1, key="a5"),
    ]
    rows = [(one.key, encode_item(one, speech, model.senses, 512)) for one in items]  # type: ignore[arg-type]
    return Packs(model, speech, [rows[:3], rows[3:5], rows[5:]])


def test_the_marks_of_a_batch_are_those_of_its_samples(made: Packs) -> None:
    batch = made.collate(made.packs)
    lengths = [[len(row.ids) for _, row in pack] for pack in made.packs]
    assert batch.keys == ("a0", "a1", "a2", "a3", "a4", "a5")
    assert batch.kinds == ("text", "image", "text", "audio", "video", "image")
    assert batch.segments is not None and batch.positions is not None
    offset, wanted = 0, [0]
    for at, pack in enumerate(lengths):
        start = 0
        for number, length in enumerate(pack):
            stop = start + length
            assert set(batch.segments[at, start:stop].tolist()) == {1 + sum(map(len, lengths[:at])) + number}
            assert batch.positions[at, start:stop].tolist() == list(range(length))
            assert batch.labels[at, start] == IGNORED
            assert tuple(batch.ids[at, start:stop].tolist()) == made.packs[at][number][1].ids
            wanted.append(offset + stop)
            start = stop
        assert not batch.attention[at, start:].any() and not batch.segments[at, start:].any()
        offset += batch.ids.shape[1]
        if start < batch.ids.shape[1]:
            wanted.append(offset)
    assert batch.boundaries.tolist() == wanted
    assert len(batch.images) == 5 and len(batch.mels) == 2  # in row-major order, as their placeholders
    assert batch.answer_tokens == sum(made.alone(row).answer_tokens for row in made.rows)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_of_a_pack_are_those_of_its_samples_alone(made: Packs, attention: str) -> None:
    made.model.language.set_attn_implementation(attention)
    with torch.no_grad():
        packed = made.model(made.collate(made.packs))
        for at, pack in enumerate(made.packs):
            start = 0
            for row in pack:
                alone = made.model(made.alone(row))[0]
                torch.testing.assert_close(packed[at, start : start + len(alone)], alone, rtol=0, atol=1e-5)
                start += len(alone)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_loss_and_gradients_of_packs_are_those_of_their_samples_one_by_one(made: Packs, weighting: Any) -> None:
    spec = LossSpec(weighting=weighting)
    batch = made.collate(made.packs)
    together, parts = SftLoss(spec)(made.model, batch)
    together.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}
    made.model.zero_grad()
    singles = [(made.alone(row), SftLoss(spec)(made.model, made.alone(row))) for row in made.rows]
    total = torch.stack([loss for _, (loss, _) in singles]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(together, total, rtol=1e-5, atol=1e-5)
    weight = sum(float(answer_weights(one, spec).sum()) for one, _ in singles)
    assert float(answer_weights(batch, spec).sum()) == pytest.approx(weight, rel=1e-6)
    _assert_parts(parts, [part for _, (_, part) in singles])
    for name, parameter in made.model.named_parameters():
        if parameter.grad is not None:
            rounding = 1e-5 * max(1.0, float(parameter.grad.abs().max()))  # sums of many rows, in another order
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=rounding)


def _assert_parts(found: LossParts, wanted: list[LossParts]) -> None:
    for kind in ("text", "image", "audio", "video"):
        mine = [part for part in wanted if kind in part.tokens]
        assert found.tokens[kind] == sum(part.tokens[kind] for part in mine)
        assert found.answers[kind] == len(mine)
        assert found.sums[kind] == pytest.approx(sum(part.sums[kind] for part in mine), rel=1e-5)
        assert found.means[kind] == pytest.approx(sum(part.means[kind] for part in mine), rel=1e-5)


def test_no_token_sees_over_a_boundary(made: Packs) -> None:
    """Another neighbour of the same length, before or behind: not one bit of a sample's logits moves."""
    batch = made.collate(made.packs)
    assert batch.segments is not None
    with torch.no_grad():
        before = made.model(batch)
        for sample in (1, 2, 3):
            ids, images = batch.ids, batch.images.clone()
            if sample == 2:
                images[:2] = 255 - images[:2]  # its own, the first two
            else:
                ids = torch.where(batch.segments == sample, made.speech.encode_text("blue")[0], ids)
            after = made.model(msgspec.structs.replace(batch, ids=ids, images=images))
            others = (batch.segments != sample) & batch.attention
            assert torch.equal(after[others], before[others])
            assert not torch.equal(after[batch.segments == sample], before[batch.segments == sample])


def test_a_language_model_that_lets_samples_see_each_other_is_refused(made: Packs) -> None:
    check_isolation(made.model.language)

    class Leaky(torch.nn.Module):
        """Adds the mean of all tokens, as a recurrent layer would carry them over."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def get_input_embeddings(self) -> Any:
            return self.inner.get_input_embeddings()

        def forward(self, **given: Any) -> Any:
            embeds = given.pop("inputs_embeds")
            return self.inner(inputs_embeds=embeds + embeds.mean(dim=1, keepdim=True), **given)

    class Placeless(Leaky):
        def forward(self, inputs_embeds: Any, attention_mask: Any, use_cache: bool) -> Any:  # type: ignore[override]
            return self.inner(inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=use_cache)

    with pytest.raises(SpecError, match="a packed sample depends on the one before it"):
        check_isolation(Leaky(made.model.language))
    with pytest.raises(SpecError, match="takes no positions"):
        check_isolation(Placeless(made.model.language))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gemma3_text"])
def test_usual_language_models_keep_packed_samples_apart(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 64, "sliding_window": 3, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(0)
    check_isolation(AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields)))


def test_cost_counts_what_the_row_will_hold(made: Packs) -> None:
    costs = {key: cost_of((key, row)) for key, row in made.rows}
    assert cost_of("held-out") is None
    assert [cost.images for cost in costs.values() if cost] == [0, 2, 0, 0, 2, 1]
    found = costs["a4"]
    assert isinstance(found, Cost) and 0.6 < found.audio_seconds < 0.8
    assert found.tokens == len(dict(made.rows)["a4"].ids) and found.size_bytes > 2 * 3 * 32 * 32


def test_the_omni_run_has_a_profile_that_packs() -> None:
    spec = load_run(Path(__file__).parents[2] / "specs" / "runs" / "omni-1.5b-lora.yaml", profile="packed")
    assert spec.data.pack is not None and spec.data.pack.tokens == 8192 and spec.batch_size == 8


def test_media_that_wait_as_files_are_the_same_when_they_are_decoded(
    made: Packs, item: Callable[..., FakeItem]
) -> None:
    one = item(("user", "<|image|> <|audio|> <|video|>"), ("assistant", "3"), images=1, sounds=1, frames=2, track=True)
    given: Any = one
    now = encode_item(given, made.speech, made.model.senses, 512)
    waiting = encode_item(given, made.speech, made.model.senses, 512, later=True)
    first, second = cost_of(("k", now)), cost_of(("k", waiting))
    assert first is not None and second is not None and second.size_bytes < first.size_bytes / 2
    assert msgspec.structs.replace(first, size_bytes=0) == msgspec.structs.replace(second, size_bytes=0)
    _, found = decode_media(("k", waiting))
    for mine, other in zip((*found.images, *found.windows), (*now.images, *now.windows), strict=True):
        assert np.array_equal(mine, other)
    assert msgspec.structs.replace(found, images=(), windows=()) == msgspec.structs.replace(now, images=(), windows=())


def test_a_medium_that_does_not_decode_is_named(made: Packs, item: Callable[..., FakeItem]) -> None:
    one: Any = item(("user", "<|image|>"), ("assistant", "3"), images=1, key="broken")
    one.members["image0.png"] = b"no image"
    waiting = encode_item(one, made.speech, made.model.senses, 512, later=True)
    with pytest.raises(Undecodable, match="sample broken: a medium does not decode"):
        decode_media(("broken", waiting))


def test_a_pack_smaller_than_a_sample_may_be_is_refused(tiny_spec: ModelSpec) -> None:
    from tests.trainer.datasets import tiny_run

    with pytest.raises(SpecError, match=r"pack\.tokens is 64; at least max_tokens, 128"):
        tiny_run(tiny_spec, data={"max_tokens": 128, "pack": {"tokens": 64}})
    assert to_pack(PackSpec(tokens=64, images=2)).images == 2


def test_packs_of_rows_that_the_assistant_begins_keep_their_boundaries(made: Packs) -> None:
    """Every token is said, the first ones too: they have nothing before them that could foretell them."""
    choose = random.Random(3)
    packs = []
    for _ in range(4):
        ids = [tuple(choose.randrange(40, 300) for _ in range(choose.randrange(1, 30))) for _ in range(6)]
        packs.append([("k", Encoded(ids=one, said=(True,) * len(one), kind="text")) for one in ids])
    batch = made.collate(packs)
    with torch.no_grad():
        packed = made.model(batch)
        total = SftLoss(LossSpec())(made.model, batch)[0]
        singles = [SftLoss(LossSpec())(made.model, made.alone(row))[0] for pack in packs for row in pack]
        torch.testing.assert_close(total, torch.stack(singles).sum(), rtol=1e-5, atol=1e-5)
        for at, pack in enumerate(packs):
            start = 0
            for row in pack:
                alone = made.model(made.alone(row))[0]
                torch.testing.assert_close(packed[at, start : start + len(alone)], alone, rtol=0, atol=1e-5)
                start += len(alone)
