"""Several processes give what one gives; what is missing on a rank, or a rank that is gone, hangs nobody."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file

from shardkit import SpecError
from tests.trainer.datasets import build_small, generated, mixed, tiny_run, tones
from tests.trainer.ranks import run_ranks, start_ranks
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import ModelSpec, RunSpec

STEPS = 6


def quiet(event: dict[str, Any]) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(tmp_path_factory.mktemp("data") / "mixed", each=7)


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(tiny_spec, steps=STEPS, checkpoint={"every": 2}, eval={"samples": 0})


@pytest.fixture(scope="module")
def alone(spec: RunSpec, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    train(spec, str(dataset), out, report=quiet)
    return out


def assert_alike(out: Path, alone: Path) -> None:
    found, wanted = read_metrics(out), read_metrics(alone)
    for name in ("step", "tokens", "samples", "answer_tokens", "skipped"):
        assert [line[name] for line in found] == [line[name] for line in wanted], name
    for name in ("loss", "gradient_norm"):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in wanted], rel=1e-5), name
    last = Path("checkpoints") / f"step-{STEPS:08d}" / "model.safetensors"
    ours, theirs = load_file(out / last), load_file(alone / last)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (value - theirs[name]).abs().max() < 2e-3, name  # Adam turns rounding into steps of the rate, 1e-2


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_with_a_modality_missing_on_one_rank(
    parallel: str, spec: RunSpec, dataset: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_ranks(msgspec.structs.replace(spec, parallel=parallel), dataset, out, 2)
    assert_alike(out, alone)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_another_number_of_processes_in_the_middle_changes_nothing(
    parallel: str, spec: RunSpec, dataset: Path, alone: Path, tmp_path: Path
) -> None:
    flat = {"optimizer": msgspec.structs.replace(spec.optimizer, floor=1.0)}
    whole = msgspec.structs.replace(spec, **flat)
    train(whole, str(dataset), tmp_path / "whole", report=quiet)
    out = tmp_path / "out"
    for steps, ranks in ((2, 1), (4, 2), (6, 1)):
        run_ranks(msgspec.structs.replace(whole, steps=steps, parallel=parallel if ranks > 1 else "auto"), dataset, out, ranks)
    assert_alike(out, tmp_path / "whole")
