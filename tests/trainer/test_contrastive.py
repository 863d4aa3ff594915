"""Contrastive alignment: InfoNCE by hand, learnt by both models, the same over processes."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from shardkit import SpecError
from tests.trainer.answers import mean_of
from tests.trainer.datasets import mixed, tiny_run
from tests.trainer.media_batches import Asked, fusion_spec, media_batch, media_pack
from tests.trainer.ranks import run_ranks
from trainer.data.tokenise import Speech
from trainer.losses.contrastive import NOTHING, ContrastiveLoss, contrast
from trainer.metrics import read_metrics
from trainer.model.pooling import Pairs, answer_fingerprints
from trainer.model.table import Model, make_model
from trainer.objective import check_objective
from trainer.spec import HeadsSpec, LanguageSpec, LossSpec, ModelSpec, RunSpec

ASKED: tuple[Asked, ...] = (
    ("image", "What colour?", "red"), ("image", "What colour?", "green"), ("audio", "digits", "1 2"),
    ("text", "What colour?", "red"), ("audio", "digits", "3"), ("video", "What colour?", "blue"),
)  # fmt: skip
KINDS = ("omni", "fusion")


def made(kind: str, tiny_spec: ModelSpec, speech: Speech) -> Model:
    torch.manual_seed(2)
    return make_model(tiny_spec if kind == "omni" else fusion_spec(tiny_spec), speech).train()


def pairs_of(media: torch.Tensor, text: torch.Tensor, answers: torch.Tensor) -> Pairs:
    one, zero = torch.ones(()), torch.zeros(())
    return Pairs(media, text, answers, torch.arange(len(media)), one, zero)


def test_the_loss_has_the_value_of_its_formula() -> None:
    media, text = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    found = contrast(pairs_of(media, text, torch.tensor([1, 2])), temperature=0.5)
    wanted = math.log(1 + math.exp(-2.0))
    assert found.losses.tolist() == pytest.approx([wanted, wanted])
    assert found.right.tolist() == [1.0, 1.0]
    crossed = contrast(pairs_of(media, text.flip(0), torch.tensor([1, 2])), temperature=0.5)
    assert crossed.losses.tolist() == pytest.approx([wanted + 2.0, wanted + 2.0])
    assert crossed.right.tolist() == [0.0, 0.0]


def test_an_answer_that_says_the_same_is_no_other() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = contrast(pairs_of(vectors, vectors, torch.tensor([5, 5, 6])), temperature=1.0)
    alone = contrast(pairs_of(vectors[1:], vectors[1:], torch.tensor([5, 6])), temperature=1.0)
    assert found.losses[0] == pytest.approx(float(alone.losses[0]))
    assert found.right.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_aligned_to_the_last_pair(kind: str, tiny_spec: ModelSpec, speech: Speech) -> None:
    model, loss = made(kind, tiny_spec, speech), ContrastiveLoss(LossSpec(name="contrastive"))
    batch = media_batch(speech, model.senses, ASKED)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(80):
        total, parts = loss(model, batch)
        (total / loss.weight(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert mean_of(parts, "contrastive_accuracy") == 1.0
    assert mean_of(parts, "contrastive_loss") < 0.1
    assert parts.tokens == {"image": 2, "audio": 2, "video": 1}
    assert float(loss.weight(batch)) == 5.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", ["text", "image", "audio"])
def test_whatever_a_batch_lacks_encoders_and_connectors_have_gradients(
    kind: str, shown: str, tiny_spec: ModelSpec, speech: Speech
) -> None:
    model, loss = made(kind, tiny_spec, speech), ContrastiveLoss(LossSpec(name="contrastive"))
    batch = media_batch(speech, model.senses, [row for row in ASKED if row[0] == shown])
    total, parts = loss(model, batch)
    (total / loss.weight(batch)).backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(total)
    parts_of_model = ("vision.", "vision_connector.", "audio.", "audio_connector.")
    wanted = [(name, p) for name, p in model.named_parameters() if p.requires_grad and name.startswith(parts_of_model)]
    assert [name for name, p in wanted if p.grad is None] == []
    if shown == "text":
        assert total.item() == 0.0 and parts.extra == {} and float(loss.weight(batch)) == pytest.approx(NOTHING)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_samples_are_compared_as_those_in_rows(kind: str, tiny_spec: ModelSpec, speech: Speech) -> None:
    model, loss = made(kind, tiny_spec, speech).eval(), ContrastiveLoss(LossSpec(name="contrastive"))
    packed, apart = (make(speech, model.senses, ASKED) for make in (media_pack, media_batch))
    with torch.no_grad():
        found = loss(model, packed)[0], loss(model, apart)[0]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-4)
    assert torch.equal(answer_fingerprints(packed), answer_fingerprints(apart))
    assert answer_fingerprints(apart)[0] == answer_fingerprints(apart)[3]


def test_the_temperature_is_learnt_where_the_spec_says_so(tiny_spec: ModelSpec, speech: Speech) -> None:
    batch = None
    for learnt in (False, True):
        torch.manual_seed(2)
        model = make_model(fusion_spec(tiny_spec, learn_temperature=learnt), speech).train()
        batch = batch or media_batch(speech, model.senses, ASKED)
        ContrastiveLoss(LossSpec(name="contrastive"))(model, batch)[0].backward()  # type: ignore[no-untyped-call]
        found = {name: p.grad for name, p in model.named_parameters() if name.endswith("log_sharpness")}
        assert len(found) == learnt
        assert all(gradient is not None and bool(gradient != 0) for gradient in found.values())


def test_a_part_of_a_step_with_one_sample_is_refused() -> None:
    model = ModelSpec(language=LanguageSpec(pretrained="x"))
    loss = LossSpec(name="contrastive", heads=HeadsSpec(temperature=0.1))
    with pytest.raises(SpecError, match="the model has no encoder"):
        check_objective(RunSpec(name="x", model=model, loss=loss))
    seeing = {"vision": {"pretrained": "x"}, "language": {"pretrained": "x"}}
    spec = RunSpec(name="x", model=msgspec.convert(seeing, ModelSpec), loss=loss, batch_size=4, accumulate=4)
    with pytest.raises(SpecError, match="has 1 sample; wanted at least 2"):
        check_objective(spec)


def vectors(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    media, text = (torch.randn(count, 8, generator=generator, dtype=torch.float64).float() for _ in range(2))
    return media, text, torch.tensor([1, 2, 3, 1, 4])[:count]


def losses(weight: torch.Tensor, rows: slice) -> torch.Tensor:
    media, text, answers = (value[rows] for value in vectors(5))
    return contrast(pairs_of(media @ weight, text @ weight, answers), 0.3).losses.sum()


def work(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    weight = torch.eye(8).requires_grad_()
    total = losses(weight, slice(0, 2) if rank == 0 else slice(2, 5))
    # a rank without pairs, which has no gradient for what it lacks, takes part
    empty = losses(weight.detach(), slice(0, 0)) if rank == 0 else losses(weight, slice(0, 5))
    (total + 0.0 * empty).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    summed = weight.grad.clone()
    dist.all_reduce(summed)
    with torch.no_grad():
        assert len(contrast(pairs_of(*vectors(2)), 0.3).losses) == 2  # alone, without gradients: nobody waits
    torch.save({"gradient": summed, "loss": total.detach()}, Path(folder, str(rank)))
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="processes meet in a file, as tried on Linux")
def test_two_processes_have_the_gradients_of_one_with_the_joined_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.multiprocessing.spawn import spawn

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    spawn(work, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    weight = torch.eye(8).requires_grad_()
    whole = losses(weight, slice(0, 5))
    whole.backward()  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1)]
    assert float(found[0]["loss"] + found[1]["loss"]) == pytest.approx(whole.item(), abs=1e-6)
    for each in found:
        torch.testing.assert_close(each["gradient"], weight.grad, rtol=0, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="as the other tests of several processes")
@pytest.mark.parametrize(("kind", "parallel"), [("omni", "ddp"), ("fusion", "fsdp")])
def test_a_run_of_two_processes_is_that_of_one(kind: str, parallel: str, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    data = mixed(tmp_path / "mixed", 6)
    model = fusion_spec(tiny_spec, learn_temperature=True) if kind == "fusion" else tiny_spec
    loss = {"name": "fusion", "weighting": "sample"} if kind == "fusion" else {"name": "contrastive"}
    spec = tiny_run(model, steps=3, loss=loss, eval={"samples": 0}, batch_size=8)
    run_ranks(spec, data, tmp_path / "one", 1)
    run_ranks(msgspec.structs.replace(spec, parallel=parallel), data, tmp_path / "two", 2)
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    for name in ("loss", "gradient_norm", "contrastive_loss", "contrastive_accuracy"):
        found, wanted = ([line[name] for line in lines if name in line] for lines in (two, one))
        assert len(wanted) > 1 and found == pytest.approx(wanted, rel=1e-4, abs=1e-5), name
