"""A run that went wrong as a whole is told so at its end; one that went well is told nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit import BuildSpec, build_dataset, convert_spec
from tests.trainer.datasets import generated, tiny_run
from trainer.closing import closing_warnings
from trainer.loop import train
from trainer.spec import LossSpec, ModelSpec, RunSpec

VOCABULARY = 400  # guessing costs 6 nats


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(tiny_spec)


def told(folder: Path, spec: RunSpec, losses: Sequence[float | None], **more: Any) -> list[str]:
    lines = [{"step": at, "loss": loss, "read": 4, "left_out": {}} | more for at, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(closing_warnings(folder, spec, VOCABULARY))


def test_a_loss_far_above_its_beginning_and_above_guessing_has_diverged(tmp_path: Path, spec: RunSpec) -> None:
    (text,) = told(tmp_path, spec, [7.0, 3.0, 90.0, 300.0, None, 500.0, 700.0, 400.0])
    assert text.startswith("the run has diverged: its loss ends at 400; it began at 7, and guessing among 400 tokens")
    assert "smaller optimizer.rate" in text
    assert told(tmp_path, spec, [7.0, 3.0, 1.0, 0.5]) == []
    assert told(tmp_path, spec, [0.1, 0.1, 5.0, 9.0, 0.2, 0.1, 90.0, 0.1]) == []  # hard batches
    assert told(tmp_path, spec, []) == []


def test_losses_that_are_not_of_tokens_are_judged_by_their_beginning(tmp_path: Path, spec: RunSpec) -> None:
    compared = msgspec.structs.replace(spec, loss=LossSpec(name="dpo"))
    (text,) = told(tmp_path, compared, [0.69, 2.0, 4.0, 4.0, 4.0])
    assert "began at 0.69. Its last weights" in text
    assert told(tmp_path, compared, [0.69, 0.9, 0.8]) == []


def test_samples_refused_and_steps_skipped_are_counted(tmp_path: Path, spec: RunSpec) -> None:
    left_out = {"held-out": 1, "too-long": 1, "deaf": 1}
    (text,) = told(tmp_path, spec, [3.0, 2.0], left_out=left_out)
    assert text.startswith("4 of 6 samples read were left out of the training (2 too-long, 2 deaf); look at data.max")
    assert told(tmp_path, spec, [3.0, 2.0], left_out={"held-out": 3}) == []
    (text,) = told(tmp_path, spec, [3.0, 2.0, 2.0], skipped=2, skip="not finite")
    assert text.startswith("2 of 3 steps were skipped as bad; see skipped.jsonl")


def test_a_run_tells_it_as_a_warning_at_its_end(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    text = generated("notes", "notes", "question_answer", 4)
    tones = generated("tones", "dtmf", "transcript", 12, media_type="tones", parameters={"digits": 1})
    build = convert_spec({"name": "mostly-heard", "seed": 7, "sources": [text, tones]}, BuildSpec, "test")
    build_dataset(build, out=tmp_path / "data", workers=0)
    deaf = msgspec.structs.replace(tiny_spec, audio=None)
    rates = {"rate": 1.0, "warmup": 0, "floor": 1.0}
    spec = tiny_run(deaf, steps=8, optimizer=rates, eval={"samples": 0}, data={"max_tokens": 128, "held_out": 0.0})
    events: list[dict[str, Any]] = []
    train(spec, str(tmp_path / "data"), tmp_path / "run", report=events.append)
    warnings = [event["text"] for event in events[-2:]]
    assert "the run has diverged" in warnings[0]
    assert "were left out of the training" in warnings[1] and "deaf" in warnings[1]
