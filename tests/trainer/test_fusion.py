"""The fusion model: its heads learn, each sample goes where it belongs, and nobody sees what is not theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from shardkit import SpecError, convert_spec
from tests.trainer.answers import mean_of
from tests.trainer.conftest import png_bytes
from tests.trainer.datasets import mixed, tiny_run
from tests.trainer.media_batches import Asked, encoded, fusion_spec, media_batch, media_pack
from tests.trainer.runs import Stop
from trainer.data.collate import TrainBatch, collate
from trainer.data.tokenise import Speech
from trainer.eval.answers import split_answer
from trainer.flops import count_model
from trainer.generate import open_model
from trainer.loop import train
from trainer.losses.fusion import FusionLoss
from trainer.losses.parts import LossParts
from trainer.metrics import read_metrics
from trainer.model.fusion import Fusion
from trainer.model.generate import greedy
from trainer.model.meta import open_meta
from trainer.model.table import make_model
from trainer.model.trainable import set_trainable
from trainer.plan import plan_run
from trainer.spec import FusionSpec, HeadsSpec, LossSpec, ModelSpec, RunSpec, load_run

ASKED: tuple[Asked, ...] = (
    ("image", "What colour?", "red"), ("image", "What colour?", "green"), ("audio", "digits", "1 2"),
    ("audio", "digits", "3"), ("video", "What colour?", "blue"), ("text", "What colour?", "button"),
)  # fmt: skip


@pytest.fixture
def model(tiny_spec: ModelSpec, speech: Speech) -> Fusion:
    return made(tiny_spec, speech)


def made(tiny_spec: ModelSpec, speech: Speech, **fields: Any) -> Fusion:
    torch.manual_seed(1)
    found = make_model(fusion_spec(tiny_spec, **fields), speech)
    assert isinstance(found, Fusion)
    return found.train()


def learn(model: Fusion, batch: TrainBatch, steps: int) -> LossParts:
    loss = FusionLoss(LossSpec(name="fusion", weighting="sample"))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(steps):
        total, parts = loss(model, batch)
        (total / loss.weight(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return parts


def test_its_heads_overfit_a_batch_and_answer_it(model: Fusion, speech: Speech) -> None:
    rows = encoded(speech, model.senses, ASKED)
    parts = learn(model, collate(rows, model.senses, speech.pad_id), 80)
    assert mean_of(parts, "caption_loss") < 0.05
    assert mean_of(parts, "transcription_loss") < 0.05
    assert mean_of(parts, "contrastive_accuracy") == 1.0
    assert parts.tokens.keys() == {"image", "audio", "video", "text"}
    for (_, row), (_, _, answer) in zip(rows, ASKED, strict=True):
        split = split_answer(row, model.senses, speech)
        assert split
        prompt = collate([("x", split[0])], model.senses, speech.pad_id)
        assert speech.tokenizer.decode(model.answer(prompt, 8)) == answer
    prompts = [("x", split[0]) for _, row in rows if (split := split_answer(row, model.senses, speech))]
    together = greedy(model, collate(prompts, model.senses, speech.pad_id), 8, speech.end_ids)
    assert [speech.tokenizer.decode(ids) for ids in together] == [answer for _, _, answer in ASKED]


def test_an_answer_is_of_one_prompt_and_fits_the_positions(tiny_spec: ModelSpec, speech: Speech) -> None:
    model = made(tiny_spec, speech, positions=20)
    batch = media_batch(speech, model.senses, ASKED[:2])
    with pytest.raises(ValueError, match="2 samples; wanted one"):
        model.answer(batch, 3)
    one = media_batch(speech, model.senses, ASKED[3:4])
    assert len(model.answer(one, 50)) <= 20 - one.ids.shape[1]


@pytest.mark.parametrize(
    "kinds", [("text",), ("image",), ("audio",), ("video",), ("image", "audio"), ("image", "text"), ("audio", "text")]
)
def test_whatever_a_batch_lacks_every_part_has_a_gradient(model: Fusion, speech: Speech, kinds: Sequence[str]) -> None:
    asked = [row for row in ASKED if row[0] in kinds]
    loss, batch = FusionLoss(LossSpec(name="fusion")), media_batch(speech, model.senses, asked)
    total, parts = loss(model, batch)
    total.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(total)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert ("transcription_loss" in parts.extra) == ("audio" in kinds)
    assert ("caption_loss" in parts.extra) == bool({"image", "video", "text"} & {*kinds})
    media = sum(row[0] != "text" for row in asked)
    assert parts.extra.get("contrastive_loss", (0.0, 0.0))[1] == media


def test_every_sample_goes_to_its_head(model: Fusion, speech: Speech) -> None:
    batch = media_batch(speech, model.senses, ASKED)
    assert model.hears(batch).tolist() == [0, 0, 1, 1, 0, 0]
    logits = model(batch)
    vectors = model.hidden(batch)
    assert torch.allclose(logits[2], model.transcription(vectors[2]))
    assert torch.allclose(logits[0], model.caption(vectors[0]))


def test_weights_of_heads_are_those_of_the_spec(model: Fusion, speech: Speech) -> None:
    batch = media_batch(speech, model.senses, ASKED)

    def total(**weights: float) -> float:
        heads = HeadsSpec(**{"caption": 0.0, "transcription": 0.0, "contrastive": 0.0, **weights})
        return FusionLoss(LossSpec(name="fusion", weighting="sample", heads=heads))(model, batch)[0].item()

    alone = total(caption=1.0), total(transcription=1.0), total(contrastive=1.0)
    assert FusionLoss(LossSpec(name="fusion", weighting="sample"))(model, batch)[0].item() == pytest.approx(
        alone[0] + alone[1] + 0.5 * alone[2], rel=1e-5
    )
    assert min(alone) > 0


def test_without_the_contrastive_head_accumulating_changes_nothing(model: Fusion, speech: Speech) -> None:
    heads = HeadsSpec(contrastive=0.0)
    loss = FusionLoss(LossSpec(name="fusion", heads=heads))
    whole = media_batch(speech, model.senses, ASKED)
    loss(model, whole)[0].backward()  # type: ignore[no-untyped-call]
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    rows = encoded(speech, model.senses, ASKED)
    for part in (rows[:2], rows[2:5], rows[5:]):
        loss(model, collate(part, model.senses, speech.pad_id))[0].backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if name in wanted:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5)


def test_packed_samples_see_only_their_own_text_and_media(model: Fusion, speech: Speech) -> None:
    model.eval()
    packed = media_pack(speech, model.senses, ASKED)
    rows = encoded(speech, model.senses, ASKED)
    start = 0
    with torch.no_grad():
        logits = model(packed)[0]
        for row in rows:
            alone = model(collate([row], model.senses, speech.pad_id))[0]
            stop = start + len(row[1].ids)
            torch.testing.assert_close(logits[start + 1 : stop], alone[1:], rtol=1e-4, atol=1e-4)
            start = stop
        loss = FusionLoss(LossSpec(name="fusion"))
        apart = loss(model, media_batch(speech, model.senses, ASKED))
        joined = loss(model, packed)
    assert float(joined[0]) == pytest.approx(float(apart[0]), rel=1e-4)
    other = packed.images.clone()
    other[0] = 255 - other[0]
    first = len(rows[0][1].ids)
    with torch.no_grad():
        changed = model(msgspec.structs.replace(packed, images=other))[0]
    assert torch.equal(changed[first + 1 :], logits[first + 1 :])
    assert not torch.equal(changed[1:first], logits[1:first])


def test_text_sees_neither_what_comes_nor_padding_nor_places_of_media(model: Fusion, speech: Speech) -> None:
    model.eval()
    batch = media_batch(speech, model.senses, ASKED)
    ids = batch.ids.clone()
    ids[:, -1] = 50
    with torch.no_grad():
        wanted = model(batch)
        found = model(msgspec.structs.replace(batch, ids=ids))
    assert torch.equal(found[:, :-1], wanted[:, :-1])
    places = (batch.ids[..., None] == torch.tensor([*model.seen_ids, model.heard_id])).any(dim=-1)
    with torch.no_grad():
        for token in (*model.seen_ids, model.heard_id):
            model.language.words.weight[token] += 5.0
        found = model(batch)
    assert torch.equal(found[~places], wanted[~places])


def test_answers_do_not_look_at_media_to_be_compared(model: Fusion, speech: Speech) -> None:
    model.eval()
    batch = media_batch(speech, model.senses, ASKED[:4])
    with torch.no_grad():
        first = model.aligned(batch)
        other = model.aligned(msgspec.structs.replace(batch, images=255 - batch.images))
        asked = [(kind, "digits of", answer) for kind, _, answer in ASKED[:4]]
        asked_otherwise = model.aligned(media_batch(speech, model.senses, asked))
    assert torch.equal(first.text, other.text)
    assert torch.allclose(first.text, asked_otherwise.text, atol=1e-5)
    assert not torch.allclose(first.media, other.media)


def test_frozen_encoders_stay_in_eval_mode_and_have_no_gradient(tiny_spec: ModelSpec, speech: Speech) -> None:
    spec = fusion_spec(tiny_spec)
    assert spec.vision
    frozen = msgspec.structs.replace(spec.vision, trainable=False)
    model = make_model(msgspec.structs.replace(spec, vision=frozen), speech).train()
    assert isinstance(model, Fusion)
    assert model.vision and model.audio
    assert not model.vision.training and model.audio.training
    FusionLoss(LossSpec(name="fusion"))(model, media_batch(speech, model.senses, ASKED))[0].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in model.vision.parameters())


def test_its_arithmetic_is_counted(model: Fusion) -> None:
    found = count_model(model)
    assert found.per_image > 0 and found.per_window > 0
    assert found.per_pair == 12 * 2 * 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"kind": "fusion"}}, "needs model.fusion"),
        ({"model": {"kind": "fusion", "fusion": {}, "language": {"pretrained": "x"}}}, "has no model.language"),
        ({"model": {}}, "model.kind is omni: it needs model.language"),
        ({"model": {"kind": "fusion", "fusion": {"width": 10, "heads": 4}}}, "not a multiple of its 4 heads"),
        (
            {"model": {"kind": "fusion", "fusion": {}, "vision": {"pretrained": "x", "latents": 8}}},
            "model.vision.latents says nothing",
        ),
        ({"loss": {"name": "dpo"}}, "loss.name is dpo and model.kind is fusion; wanted one of fusion"),
        ({"speed": {"loss_chunk": 4}}, "set it to 0"),
        ({"model": {"language": {"pretrained": "x"}}}, "wanted model.kind=fusion"),
        ({"loss": {"name": "sft", "heads": {}}}, "loss.heads goes with fusion and contrastive"),
        ({"loss": {"name": "fusion", "heads": {"temperature": 0}}}, "temperature is 0"),
        ({"loss": {"name": "fusion", "heads": {"caption": -1}}}, "none negative"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any], message: str) -> None:
    good = {"name": "x", "model": {"kind": "fusion", "fusion": {}}, "loss": {"name": "fusion"}}
    convert_spec(good, RunSpec, "test")
    with pytest.raises(SpecError, match=message):
        convert_spec({**good, **change}, RunSpec, "test")


def test_the_defaults_are_those_of_the_issue() -> None:
    heads, fusion = HeadsSpec(), FusionSpec()
    assert (heads.caption, heads.transcription, heads.contrastive, heads.temperature) == (1.0, 1.0, 0.5, 0.07)
    assert fusion.layers == 6


def test_its_heads_train_with_its_transformer(model: Fusion) -> None:
    set_trainable(model, ["language"])
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"language", "caption", "transcription", "contrastive"}


def test_a_plan_knows_its_true_sizes() -> None:
    spec = load_run(Path(__file__).resolve().parents[2] / "specs" / "runs" / "fusion-heads.yaml")
    plan = plan_run(spec, "")
    parts = {part.name: part.trained + part.frozen for part in plan.parts}
    assert 400e6 < parts["vision"] < 430e6 and 620e6 < parts["audio"] < 650e6
    assert plan.trained > 0 and plan.frozen == parts["vision"] + parts["audio"]
    model = open_meta(spec)
    assert isinstance(model, Fusion) and model.vision and model.audio
    assert (model.vision.length, model.audio.length) == (1024, 1500)


def test_a_run_stopped_and_resumed_ends_the_same(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    data = str(mixed(tmp_path / "mixed", 6))
    spec = tiny_run(
        fusion_spec(tiny_spec, learn_temperature=True),
        steps=6,
        loss={"name": "fusion"},
        eval={"samples": 0},
        accumulate=2,
    )

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            raise Stop

    train(spec, data, tmp_path / "whole", report=lambda event: None)
    with pytest.raises(Stop):
        train(spec, data, tmp_path / "parts", report=stop)
    train(spec, data, tmp_path / "parts", report=lambda event: None)
    lines = [read_metrics(tmp_path / name) for name in ("parts", "whole")]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    asked = open_model(tmp_path / "parts").answer("What colour is the button?", images=[png_bytes()])
    assert isinstance(asked, str)
    assert len(lines[0]) == 6 and "contrastive_accuracy" in lines[0][0]
    last = Path("checkpoints/step-00000006/model.safetensors")
    assert (tmp_path / "parts" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()
