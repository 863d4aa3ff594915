"""Several processes give what one gives; what is missing on a rank, or a rank that is gone, hangs nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from shardkit import SpecError
from tests.trainer.datasets import mixed, tiny_run
from tests.trainer.ranks import run_ranks, start_ranks
from tests.trainer.runs import quiet
from trainer.distributed import World, choose_parallel, open_world
from trainer.distributed.merge import merge_figures
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.setting import reading_of, share_of
from trainer.spec import ModelSpec, PackSpec, RunSpec

STEPS = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(tmp_path_factory.mktemp("data") / "mixed", each=7)


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(
        tiny_spec,
        steps=STEPS,
        checkpoint={"every": 2},
        eval={"samples": 0},
        data={"max_tokens": 128, "held_out": 0.4},  # so much that a rank's batch is empty now and then
        optimizer={"warmup": 2, "rate": 1e-2, "floor": 1.0},  # the same rates whatever `steps` is
    )


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


def test_adapters_on_a_frozen_model_that_is_cut_up_learn_the_same(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    assert spec.model.vision
    model = msgspec.structs.replace(
        spec.model,
        language=msgspec.structs.replace(spec.model.language, train="lora"),
        vision=msgspec.structs.replace(spec.model.vision, trainable=False),
    )
    adapted = msgspec.structs.replace(spec, model=model)
    train(adapted, str(dataset), tmp_path / "alone", report=quiet)
    run_ranks(msgspec.structs.replace(adapted, parallel="fsdp"), dataset, tmp_path / "out", 2)
    assert_alike(tmp_path / "out", tmp_path / "alone")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_another_number_of_processes_in_the_middle_changes_nothing(
    parallel: str, spec: RunSpec, dataset: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for steps, ranks in ((2, 1), (4, 2), (6, 1)):
        part = msgspec.structs.replace(spec, steps=steps, parallel=parallel if ranks > 1 else "auto")
        if ranks > 1:
            run_ranks(part, dataset, out, ranks)
        else:
            train(part, str(dataset), out, report=quiet)
    assert_alike(out, alone)


def test_packs_of_two_processes_are_read_on_by_one(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    pack = PackSpec(tokens=160, lanes=4, candidates=6)
    packed = msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, pack=pack), batch_size=2)
    train(packed, str(dataset), tmp_path / "alone", report=quiet)
    out = tmp_path / "out"
    run_ranks(msgspec.structs.replace(packed, steps=4), dataset, out, 2)
    train(packed, str(dataset), out, report=quiet)
    assert_alike(out, tmp_path / "alone")


def test_a_rank_that_is_killed_ends_the_job_with_advice_and_the_run_goes_on(
    spec: RunSpec, dataset: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_ranks(spec, dataset, out, 2)
    while process.poll() is None and not list(out.glob("checkpoints/step-*")):
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(rank_of(process, 1), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert time.monotonic() - began < 60
    assert "the same command" in errors and "Exception ignored" not in errors
    train(spec, str(dataset), out, report=quiet)
    assert_alike(out, alone)


def test_ranks_whose_launcher_is_killed_end_with_a_message_and_the_run_goes_on(
    spec: RunSpec, dataset: Path, tmp_path: Path
) -> None:
    out, long = tmp_path / "out", msgspec.structs.replace(spec, steps=2000)
    process = start_ranks(long, dataset, out, 2)
    while process.poll() is None and not list(out.glob("checkpoints/step-*")):
        time.sleep(0.01)
    ranks = [rank_of(process, rank) for rank in (0, 1)]
    process.kill()
    _, errors = process.communicate(timeout=60)  # the ranks hold its pipes: they end with the last of them
    patience = time.monotonic() + 20  # a process closes its pipes a little before it is gone
    while any(is_alive(rank) for rank in ranks) and time.monotonic() < patience:
        time.sleep(0.01)
    assert not any(is_alive(rank) for rank in ranks)
    assert "of 2: torchrun, which started it, has ended or was killed; run the same command again" in errors
    assert "Exception ignored" not in errors and "trainer/" not in errors
    reached = max(line["step"] for line in read_metrics(out))
    train(msgspec.structs.replace(long, steps=reached + 2), str(dataset), out, report=quiet)
    assert [line["step"] for line in read_metrics(out)] == list(range(1, reached + 3))


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def rank_of(launcher: subprocess.Popen[str], rank: int) -> int:
    """The process number of a rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return next(int(child) for child in children if f"RANK={rank}".encode() in environment(child))


def environment(process: str) -> list[bytes]:
    return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")


def test_a_batch_that_ranks_cannot_share_is_refused(spec: RunSpec) -> None:
    assert share_of(reading_of(spec), World(1, 2)).batch_size == 2
    with pytest.raises(SpecError, match=r"4 a part, which 3 processes cannot share evenly; .* multiple of 3"):
        share_of(reading_of(spec), World(1, 3))


def test_how_a_model_is_spread(spec: RunSpec) -> None:
    model, cpu, two = torch.nn.Linear(2, 2), torch.device("cpu"), World(0, 2)
    assert choose_parallel("auto", model, cpu, World()).kind == "none"
    assert choose_parallel("auto", model, cpu, two).kind == "ddp"
    assert choose_parallel("auto", model, torch.device("cuda"), two).kind == "fsdp"
    with pytest.raises(SpecError, match="parallel is none and there are 2 processes"):
        choose_parallel("none", model, cpu, two)
    setattr(model.weight, "quant_state", object())  # noqa: B010 - as bitsandbytes marks its parameters
    assert choose_parallel("auto", model, torch.device("cuda"), two).kind == "ddp"
    with pytest.raises(SpecError, match="quantised"):
        choose_parallel("fsdp", model, cpu, two)


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SpecError, match=r"RANK = None.*torchrun"), open_world(5.0):
        pass


def test_figures_of_ranks_are_joined() -> None:
    entries = [
        {"tokens_per_second": 10.0, "data_wait": 0.1, "epoch": 1, "left_out": {"a": 1}, "damaged": ["x"], "tokens": 7},
        {"tokens_per_second": 5.0, "data_wait": 0.3, "epoch": 0, "left_out": {"a": 2, "b": 1}, "tokens": 7},
    ]
    assert merge_figures(entries) == {
        "tokens_per_second": 15.0,
        "data_wait": 0.3,
        "epoch": 0,
        "left_out": {"a": 3, "b": 1},
        "damaged": ["x"],
        "tokens": 7,
    }
