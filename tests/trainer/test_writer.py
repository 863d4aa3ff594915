"""Checkpoints are written while training goes on: errors come up, a kill leaves the one before, the rule keeps."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from shardkit import SpecError
from tests.trainer.datasets import tiny_run
from tests.trainer.runs import quiet
from tests.trainer.test_checkpoint import PROGRESS, Small, saved, stepped
from trainer.checkpoint import (
    CheckpointFailed,
    Copier,
    Damaged,
    Writer,
    best_checkpoint,
    files,
    find_checkpoint,
    list_checkpoints,
    load_tensors,
    prune_checkpoints,
    read_progress,
    save_checkpoint,
    step_of,
    take_snapshot,
)
from trainer.checkpoint.files import write_checkpoint
from trainer.data.tokenise import Speech
from trainer.distributed import World
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.optim import make_optimizer
from trainer.spec import CheckpointSpec, ModelSpec, RunSpec


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(tiny_spec, steps=8, checkpoint={"every": 2, "keep": 9}, eval={"samples": 0})


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits until it is set."""
    opened = threading.Event()

    def wait(folder: Path, snapshot: Any) -> Path:
        opened.wait(30)
        return write_checkpoint(folder, snapshot)

    monkeypatch.setattr("trainer.checkpoint.writer.write_checkpoint", wait)
    return opened


def take(model: torch.nn.Module, optimizer: torch.optim.Optimizer, speech: Speech, step: int) -> Callable[[], Any]:
    progress = msgspec.structs.replace(PROGRESS, step=step)
    return lambda: take_snapshot(progress, model, optimizer, speech, world=World(), copier=Copier())


def test_what_is_written_is_the_model_as_it_was_when_asked(
    tmp_path: Path, speech: Speech, gate: threading.Event
) -> None:
    model = Small()
    optimizer = stepped(model)
    then = [parameter.detach().clone() for parameter in model.parameters()]
    writer = Writer(tmp_path, CheckpointSpec())
    assert list(writer.write(take(model, optimizer, speech, 3))) == []
    assert list(writer.done()) == [] and list_checkpoints(tmp_path) == []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    gate.set()
    (path,) = writer.finish()
    other = Small()
    load_tensors(path, other, torch.optim.AdamW(other.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(then, other.parameters(), strict=True))
    writer.close()


def test_at_most_one_is_in_flight(tmp_path: Path, speech: Speech, gate: threading.Event) -> None:
    model = Small()
    optimizer = stepped(model)
    writer = Writer(tmp_path, CheckpointSpec())
    list(writer.write(take(model, optimizer, speech, 1)))
    threading.Timer(0.2, gate.set).start()
    began = time.monotonic()
    assert [step_of(path) for path in writer.write(take(model, optimizer, speech, 2))] == [1]
    assert time.monotonic() - began > 0.15
    assert [step_of(path) for path in writer.finish()] == [2]
    writer.close()


def test_without_asynchronous_it_is_written_when_asked(tmp_path: Path, speech: Speech) -> None:
    model = Small()
    writer = Writer(tmp_path, CheckpointSpec(asynchronous=False))
    (path,) = writer.write(take(model, stepped(model), speech, 1))
    assert find_checkpoint(tmp_path, pytest.fail) == path
    writer.close()


@pytest.mark.parametrize("failing", [2, 8])
def test_an_error_of_the_writer_ends_the_run_at_a_later_step_or_at_the_end(
    failing: int, spec: RunSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, snapshot: Any) -> Path:
        if snapshot.progress.step == failing:
            raise CheckpointFailed("cannot write: the disk is full")
        return write_checkpoint(folder, snapshot)

    monkeypatch.setattr("trainer.checkpoint.writer.write_checkpoint", fail)
    with pytest.raises(CheckpointFailed, match="the disk is full"):
        train(spec, str(dataset), tmp_path, report=quiet)
    assert len(read_metrics(tmp_path)) in ((8,) if failing == 8 else (2, 3, 4))


def test_killed_while_a_checkpoint_is_being_written_it_goes_on_from_the_one_before(
    spec: RunSpec, dataset: Path, tmp_path: Path
) -> None:
    train(spec, str(dataset), tmp_path / "whole", report=quiet)
    run_file, out = tmp_path / "run.yaml", tmp_path / "out"
    run_file.write_bytes(msgspec.yaml.encode(spec))
    arguments = ["train", str(run_file), "--data", str(dataset), "--out", str(out)]
    # the process kills itself with files of step 4 on the disk, training being further on
    killed = f"""
import os, signal, sys, threading
import trainer.checkpoint.files as files
real = files._sync_tree
def sync(folder):
    if folder.name.endswith("00000004"):
        os.kill(os.getpid(), signal.SIGKILL)
    real(folder)
files._sync_tree = sync
sys.argv = ["trainer", *{arguments!r}]
from trainer.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", killed], capture_output=True, timeout=120)
    assert done.returncode == -9
    assert [path.name for path in (out / "checkpoints").iterdir() if path.name.startswith(".writing")]
    events: list[dict[str, Any]] = []
    train(spec, str(dataset), out, report=events.append)
    assert next(event["step"] for event in events if event["event"] == "start") == 2
    last = Path("checkpoints") / "step-00000008"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (out / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()
    assert not [path for path in (out / "checkpoints").iterdir() if path.name.startswith(".")]


def test_the_best_and_the_milestones_are_kept_besides_the_last(tmp_path: Path, speech: Speech) -> None:
    model = Small()
    optimizer = stepped(model)
    losses = {1: None, 2: 0.4, 3: 0.2, 4: 0.9, 5: 0.3, 6: None, 7: 0.5}
    for step, held_out in losses.items():
        progress = msgspec.structs.replace(PROGRESS, step=step, held_out=held_out)
        path = save_checkpoint(tmp_path, progress, model, optimizer, speech)
        prune_checkpoints(tmp_path, 1, path, best=2, milestone=4)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [3, 4, 5, 7]
    best = best_checkpoint(tmp_path)
    assert best and step_of(best) == 3
    (best / "model.safetensors").write_bytes(b"torn")
    second = best_checkpoint(tmp_path)
    assert second and step_of(second) == 5


def test_cut_at_every_1000th_byte_or_with_a_flipped_bit_it_is_refused_naming_the_newest_good_one(
    tmp_path: Path, speech: Speech
) -> None:
    model = torch.nn.Linear(40, 30)
    older, newest = (
        save_checkpoint(tmp_path, msgspec.structs.replace(PROGRESS, step=step), model, stepped(model), speech)
        for step in (1, 2)
    )
    for file in sorted(path for path in newest.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        flips = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(0, len(whole), 1000)]
        for damaged in [*(whole[:cut] for cut in range(0, len(whole), 1000)), *flips]:
            file.write_bytes(damaged)
            warnings: list[str] = []
            assert find_checkpoint(tmp_path, warnings.append) == older, file
            assert "step-00000002" in warnings[0] and f"the newest whole one is {older}" in warnings[0]
        file.write_bytes(whole)


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self._trace,)


def test_a_pickle_is_refused_and_never_loaded(spec: RunSpec, dataset: Path, tmp_path: Path, speech: Speech) -> None:
    trace = tmp_path / "ran"
    (good,) = saved(tmp_path / "run" / "checkpoints", speech, 1)
    folder = good.with_name("step-00000002")
    folder.mkdir()
    for file in (tmp_path / "model.pt", folder / "pytorch_model.bin"):
        file.write_bytes(pickle.dumps(Evil(trace)))
        with pytest.raises(Damaged, match=r"(model\.pt|pytorch_model\.bin) is a pickle.*, which can run any code"):
            read_progress(file if file.suffix == ".pt" else folder)
    with pytest.raises(SpecError, match=r"is a pickle.*wanted a folder step-NNNNNNNN; the newest whole one .*00001"):
        train(spec, str(dataset), tmp_path / "other", resume=str(folder), report=quiet)
    shutil.copy(tmp_path / "model.pt", good / "model.safetensors")
    with pytest.raises(Damaged, match=r"model\.safetensors is a pickle, which"):
        read_progress(good)
    assert not trace.exists()


def test_eight_bit_moments_come_back_bit_for_bit(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    eight = msgspec.structs.replace(spec, optimizer=msgspec.structs.replace(spec.optimizer, kind="adamw8bit"))

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    train(eight, str(dataset), tmp_path / "whole", report=quiet)
    with pytest.raises(KeyboardInterrupt):
        train(eight, str(dataset), tmp_path / "cut", report=stop)
    train(eight, str(dataset), tmp_path / "cut", report=quiet)
    last = Path("checkpoints") / "step-00000008"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "cut" / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()


def test_a_large_matrix_has_moments_of_eight_bits_and_they_come_back(
    spec: RunSpec, tmp_path: Path, speech: Speech
) -> None:
    eight = msgspec.structs.replace(spec, optimizer=msgspec.structs.replace(spec.optimizer, kind="adamw8bit"))
    models = [torch.nn.Linear(128, 64) for _ in range(2)]
    optimizers = [make_optimizer(model, eight) for model in models]
    models[0](torch.ones(1, 128)).sum().backward()
    optimizers[0].step()
    path = save_checkpoint(tmp_path, PROGRESS, models[0], optimizers[0], speech)
    load_tensors(path, models[1], optimizers[1])
    before, after = (o.state[m.weight] for o, m in zip(optimizers, models, strict=True))
    assert before["state1"].dtype == torch.uint8 and before.keys() == after.keys()
    for field, value in before.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(after[field])), field
        assert type(value) is type(after[field])
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        model(torch.full((1, 128), 0.5)).square().sum().backward()
        optimizer.step()
    assert torch.equal(models[0].weight, models[1].weight)


def test_every_generator_goes_on_where_it_was(tmp_path: Path, speech: Speech) -> None:
    import random

    import numpy as np

    (path,) = saved(tmp_path, speech, 1)
    wanted = random.random(), float(np.random.rand()), torch.rand(3)
    other = Small()
    assert load_tensors(path, other, torch.optim.AdamW(other.parameters()))
    assert (random.random(), float(np.random.rand())) == wanted[:2]
    assert torch.equal(torch.rand(3), wanted[2])
    assert not load_tensors(path, other, torch.optim.AdamW(other.parameters()), rank=1)  # there was no such rank


def test_a_checkpoint_of_the_version_before_is_gone_on_from_bit_for_bit(
    spec: RunSpec, dataset: Path, tmp_path: Path
) -> None:
    flat = msgspec.structs.replace(spec, optimizer=msgspec.structs.replace(spec.optimizer, floor=1.0))
    train(flat, str(dataset), tmp_path / "whole", report=quiet)
    train(msgspec.structs.replace(flat, steps=4), str(dataset), tmp_path / "old", report=quiet)
    as_before(tmp_path / "old" / "checkpoints" / "step-00000004")
    train(flat, str(dataset), tmp_path / "old", report=quiet)
    last = Path("checkpoints") / "step-00000008"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "old" / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()


def as_before(path: Path) -> None:
    """Rewrite a checkpoint as it was before there were several ranks, generators beside torch's, and 8-bit moments."""
    state = files._unseal((path / "state.json").read_bytes())
    generator = load_file(path / "random.safetensors")["0.torch"]
    save_file(load_file(path / "optimizer.safetensors") | {"rng.cpu": generator}, path / "optimizer.safetensors")
    (path / "random.safetensors").unlink()
    for name in ("world_size", "readings", "recent", "streak", "skipped", "held_out"):
        del state["progress"][name]
    del state["progress"]["spec"]["optimizer"]["kind"]
    del state["files"]["random.safetensors"]
    state["files"]["optimizer.safetensors"] = files._digest(path / "optimizer.safetensors")
    (path / "state.json").write_bytes(files._sealed(state))
