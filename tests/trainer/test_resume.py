"""Killed at any step and resumed, a run gives the same losses and the same weights, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.trainer.datasets import build_small, generated, tiny_run
from tests.trainer.runs import Stop
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import ModelSpec, RunSpec

STEPS = 14
EXACT = ("step", "loss", "loss_by_modality", "gradient_norm", "learning_rate", "tokens", "samples", "left_out", "epoch")


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(tiny_spec, steps=STEPS, checkpoint={"every": 3})


@pytest.fixture(scope="module")
def whole(spec: RunSpec, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(spec, str(dataset), out, report=lambda event: None)
    return out


def assert_same(out: Path, whole: Path) -> None:
    assert [pick(line) for line in read_metrics(out)] == [pick(line) for line in read_metrics(whole)]
    last = Path("checkpoints") / f"step-{STEPS:08d}"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (out / last / name).read_bytes() == (whole / last / name).read_bytes(), name


def pick(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in EXACT}


@pytest.mark.parametrize("at", range(1, STEPS))
def test_stopped_after_any_step_it_ends_the_same(
    at: int, spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == at:
            raise Stop

    with pytest.raises(Stop):
        train(spec, str(dataset), tmp_path, report=stop)
    train(spec, str(dataset), tmp_path, report=lambda event: None)
    assert_same(tmp_path, whole)


PACK = {"tokens": 160, "images": 4, "audio_seconds": 6.0, "candidates": 6, "lanes": 4}


@pytest.fixture(scope="module")
def packed(tiny_spec: ModelSpec) -> RunSpec:
    data = {"max_tokens": 128, "held_out": 0.2, "pack": PACK, "mix": {"exhausted": "repeat"}}
    return tiny_run(tiny_spec, steps=STEPS, checkpoint={"every": 2}, data=data, batch_size=2, accumulate=2)


@pytest.fixture(scope="module")
def several(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    other = build_small(tmp_path_factory.mktemp("other") / "notes", generated("notes", "notes", "question_answer", 9))
    return [f"0.75={dataset}", f"0.25={other}"]


@pytest.fixture(scope="module")
def packed_whole(packed: RunSpec, several: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    train(packed, several, out, report=lambda event: None)
    return out


@pytest.mark.parametrize("at", [1, 6, 13])
def test_a_run_on_packs_of_a_mixture_stopped_after_any_step_ends_the_same(
    at: int, packed: RunSpec, several: list[str], packed_whole: Path, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == at:
            raise Stop

    with pytest.raises(Stop):
        train(packed, several, tmp_path, report=stop)
    data = msgspec.structs.replace(packed.data, decoders=3, prefetch=1)  # threads change nothing
    train(msgspec.structs.replace(packed, data=data), several, tmp_path, report=lambda event: None)
    assert_same(tmp_path, packed_whole)


def test_packs_hold_what_they_may_and_are_nearly_full(packed_whole: Path) -> None:
    lines = read_metrics(packed_whole)
    assert all(len(line["answer_tokens"]) >= 2 for line in lines)
    tokens = lines[-1]["tokens"] / (STEPS * 2)
    assert 0.85 * PACK["tokens"] < tokens <= PACK["tokens"]
    assert {line["epoch"] for line in lines} > {0, 1}
    assert sum(line["left_out"].get("held-out", 0) for line in lines) > 0


def test_killed_at_random_moments_it_ends_the_same(spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path) -> None:
    run_file, out = tmp_path / "run.yaml", tmp_path / "out"
    run_file.write_bytes(msgspec.yaml.encode(spec))
    command = [sys.executable, "-m", "trainer", "train", str(run_file), "--data", str(dataset), "--out", str(out)]
    draws = random.Random(5)
    ends = []
    for how in (signal.SIGTERM, signal.SIGKILL):
        wanted = min(STEPS - 2, last_step(out) + draws.randint(2, 4))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and last_step(out) < wanted:
            time.sleep(0.002)
        time.sleep(draws.random() * 0.02)
        process.send_signal(how)
        ends.append(process.wait())
    assert ends == [143, -signal.SIGKILL]
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    assert_same(out, whole)


def last_step(out: Path) -> int:
    return max((line["step"] for line in read_metrics(out)), default=0)


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    part = msgspec.structs.replace(spec, steps=6)
    rate = {"optimizer": msgspec.structs.replace(spec.optimizer, floor=1.0)}  # the same rates whatever `steps` is
    part, full = (msgspec.structs.replace(each, **rate) for each in (part, spec))
    train(part, str(dataset), tmp_path / "a", report=lambda event: None)
    newest = tmp_path / "a" / "checkpoints" / "step-00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    events: list[dict[str, Any]] = []
    train(full, str(dataset), tmp_path / "a", report=events.append)
    assert any(event["event"] == "warning" and "step-00000006" in event["text"] for event in events)
    assert next(event["step"] for event in events if event["event"] == "start") == 3
    train(full, str(dataset), tmp_path / "b", report=lambda event: None)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_a_run_without_any_checkpoint_begins_again_and_ends_the_same(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 99}\n{"step": 2, "lo')
    train(spec, str(dataset), tmp_path, report=lambda event: None)
    assert_same(tmp_path, whole)
