"""float16: what overflows is skipped and counted apart, a smaller scale goes on, and a resume repeats it all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.trainer.datasets import mixed, tiny_run
from tests.trainer.ranks import run_ranks
from trainer.checkpoint import list_checkpoints, peek_progress
from trainer.failure import TrainingFailed, read_skipped
from trainer.loop import train
from trainer.losses.sft import SftLoss
from trainer.metrics import read_metrics
from trainer.scaler import Scaler
from trainer.spec import ModelSpec, RunSpec

CPU = torch.device("cpu")
STEPS, BAD = 8, 4


def quiet(event: dict[str, Any]) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(tmp_path_factory.mktemp("data") / "mixed", each=7)


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    frozen = ModelSpec(vision=tiny_spec.vision, language=tiny_spec.language)
    return tiny_run(frozen, steps=STEPS, dtype="float16", checkpoint={"every": 2, "keep": 9}, eval={"samples": 4})


class Spoilt:
    """Losses of the steps from `at` on are multiplied, as often as `times` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, factor: float, times: int = 1) -> None:
        self.at, self.left, self.factor = -1, times, factor
        real = SftLoss.__call__

        def call(loss: SftLoss, model: torch.nn.Module, batch: Any) -> Any:
            found, parts = real(loss, model, batch)
            if not torch.is_grad_enabled():
                return found, parts
            self.at += 1
            spoil = self.at + 1 >= BAD and self.left > 0
            self.left -= spoil
            return found * (self.factor if spoil else 1.0), parts

        monkeypatch.setattr(SftLoss, "__call__", call)


def test_overflows_are_skipped_with_a_smaller_scale_and_counted_apart(
    spec: RunSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoilt(monkeypatch, 1e9, 2)
    train(spec, str(dataset), tmp_path, report=quiet)
    lines = read_metrics(tmp_path)
    assert [line["overflows"] for line in lines] == [0, 0, 0, 1, 2, 2, 2, 2]
    assert [line.get("skip") for line in lines] == [None] * 3 + ["overflow"] * 2 + [None] * 3
    scale = lines[2]["loss_scale"]
    assert [line["loss_scale"] for line in lines[3:]] == [scale / 2] + [scale / 4] * 4
    assert [line["skipped"] for line in lines] == [0] * STEPS and not read_skipped(tmp_path)
    assert all(math.isfinite(line["loss"]) for line in lines) and lines[-1]["loss"] < lines[0]["loss"]
    assert len(list_checkpoints(tmp_path / "checkpoints")) == STEPS // 2  # an overflow delays none


def test_an_overflow_leaves_weights_and_a_loss_that_is_not_finite_leaves_the_scale(
    spec: RunSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoilt(monkeypatch, float("nan"))
    train(spec, str(dataset), tmp_path, report=quiet)
    lines = read_metrics(tmp_path)
    assert {line["loss_scale"] for line in lines} == {lines[0]["loss_scale"]}
    assert [line["skipped"] for line in lines] == [0] * 3 + [1] * 5 and lines[-1]["overflows"] == 0
    assert [entry["reason"] for entry in read_skipped(tmp_path)] == ["not finite"]


def test_a_resume_in_the_midst_of_overflows_repeats_them(
    spec: RunSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Spoilt(patch, 1e9)
        train(spec, str(dataset), tmp_path / "whole", report=quiet)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        Spoilt(patch, 1e9)
        with pytest.raises(KeyboardInterrupt):
            train(spec, str(dataset), tmp_path / "cut", report=stop)
    train(spec, str(dataset), tmp_path / "cut", report=quiet)  # from step 4, whose overflow lies behind
    for name in ("overflows", "loss_scale", "loss", "gradient_norm"):
        ours, theirs = ([line[name] for line in read_metrics(tmp_path / out)] for out in ("cut", "whole"))
        assert ours == theirs, name
    last = Path("checkpoints") / f"step-{STEPS:08d}"
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "cut" / last / file).read_bytes() == (tmp_path / "whole" / last / file).read_bytes()
    kept = peek_progress(tmp_path / "whole" / last)
    assert kept.overflows == 1 and kept.scaler["_growth_tracker"] == STEPS - BAD
    assert kept.scaler["scale"] == read_metrics(tmp_path / "whole")[-1]["loss_scale"]


def test_gradients_that_no_scale_makes_finite_end_the_run(
    spec: RunSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoilt(monkeypatch, 1e30, 99)
    with pytest.raises(TrainingFailed, match="not finite"):
        train(msgspec.structs.replace(spec, steps=40), str(dataset), tmp_path, report=quiet)
    assert read_metrics(tmp_path)[-1]["overflows"] == 16  # from 65536 down to 1


def test_gradients_do_not_depend_on_the_scale(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    plain = msgspec.structs.replace(spec, dtype="float32", steps=2)
    for name, each in (("half", msgspec.structs.replace(spec, steps=2)), ("whole", plain)):
        train(each, str(dataset), tmp_path / name, report=quiet)
    half, whole = ([line["gradient_norm"] for line in read_metrics(tmp_path / name)] for name in ("half", "whole"))
    assert half == pytest.approx(whole, rel=0.02)
    assert "loss_scale" not in read_metrics(tmp_path / "whole")[0]
    assert not Scaler(CPU, "float32", {}).state() and not Scaler(CPU, "bfloat16", {}).has_overflowed(1.0, math.inf)


@pytest.mark.slow
def test_two_processes_whose_model_is_cut_up_scale_alike(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    run_ranks(msgspec.structs.replace(spec, parallel="fsdp"), dataset, tmp_path / "out", 2)
    lines = read_metrics(tmp_path / "out")
    assert all(math.isfinite(line["loss"]) for line in lines) and lines[-1]["loss"] < lines[0]["loss"]
    # a rank's loss is the mean over ranks times their number, so that the first scale may be too large
    assert [line["loss_scale"] for line in lines] == [2.0**16 / 2 ** line["overflows"] for line in lines]
    assert lines[-1]["overflows"] <= 2 and not read_skipped(tmp_path / "out")
    last = list_checkpoints(tmp_path / "out" / "checkpoints")[-1]
    assert peek_progress(last).scaler["_growth_tracker"] == STEPS - lines[-1]["overflows"]
