"""The run specs of the project: each loads, and its tiny profile trains from random parts as the real one would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.trainer.datasets import build_small, generated, screens, tones
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import RunSpec, load_run, stage_folder, stage_runs
from trainer.stages import read_chain, train_chain

SPECS = Path(__file__).resolve().parents[2] / "specs" / "runs"
KINDS = {
    "omni-1.5b-lora": [{"text", "image", "audio", "video"}],
    "omni-7b-qlora": [{"image", "audio", "video"}, {"text", "image", "audio", "video"}],
    "screenshot-to-code": [{"image"}, {"image"}],
    "asr-whisper": [{"audio"}],
    "fusion-heads": [{"text", "image", "audio", "video"}],
    "curriculum": [{"text", "image"}, {"text", "image", "audio"}, {"text", "image", "audio", "video"}],
}
"""What each stage may read of a dataset with everything in it."""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, screens, tones and screencasts."""
    casts = generated("casts", "screencast", "question_answer", 4, media_type="screencast")
    return build_small(
        tmp_path_factory.mktemp("data") / "everything",
        generated("notes", "notes", "question_answer", 8),
        screens(8),
        tones(8, digits=2),
        casts,
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_tiny_profile_of_a_spec_trains(name: str, everything: Path, tmp_path: Path) -> None:
    path = SPECS / f"{name}.yaml"
    settings = {"steps": "3"} | {f"stages.{stage.name}.steps": "3" for stage in load_run(path).stages}
    spec = load_run(path, {**settings, "data.held_out": "0.2"}, "tiny")
    assert spec.device == "cpu" and spec.dtype == "float32"
    watched: dict[str, Any] = {"report": lambda event: None}
    if spec.stages:
        train_chain(spec, str(everything), tmp_path, open_measure=open_measure, **watched)
        folders = [tmp_path / stage_folder(spec, at) for at in range(len(spec.stages))]
        assert [record.status for record in read_chain(tmp_path)] == ["done"] * len(folders)
    else:
        train(spec, str(everything), tmp_path, measure=open_measure(), **watched)
        folders = [tmp_path]
    for folder, allowed in zip(folders, KINDS[name], strict=True):
        lines = read_metrics(folder)
        assert [line["step"] for line in lines] == [1, 2, 3]
        read = {kind for line in lines for kind in line["loss_by_modality"]}
        assert read and read <= allowed, (folder.name, read)


@pytest.mark.parametrize("name", KINDS)
def test_the_tiny_profile_differs_from_the_real_run_in_sizes_only(name: str) -> None:
    real, tiny = (load_run(SPECS / f"{name}.yaml", profile=profile) for profile in ("", "tiny"))
    for mine, other in zip(stage_runs(real) or (real,), stage_runs(tiny) or (tiny,), strict=True):
        assert (mine.trainable, mine.loss, mine.data.where) == (other.trainable, other.loss, other.data.where)
        assert [senses(mine), senses(other)] == [senses(mine)] * 2
        assert mine.steps > other.steps


def senses(spec: RunSpec) -> list[str]:
    return [name for name in ("vision", "audio") if getattr(spec.model, name) is not None]


def test_a_curriculum_by_weights_runs_through_in_one_stage(everything: Path, tmp_path: Path) -> None:
    """As the comment in curriculum.yaml shows it: two datasets, the second comes in later."""
    other = build_small(tmp_path / "later", tones(8))
    mix = {"mix": {"schedule": [{"step": 3, "weights": [0.0001, 1]}]}, "max_tokens": 768, "held_out": 0.0}
    spec = load_run(SPECS / "curriculum.yaml", {"stages": "[]", "steps": "6", "eval.samples": "0"}, "tiny")
    datasets = [{"url": str(everything), "weight": 1}, {"url": str(other), "weight": 0.0001}]
    raw = msgspec.to_builtins(spec) | {"data": {**mix, "datasets": datasets}}
    train(msgspec.convert(raw, RunSpec), (), tmp_path / "out", report=lambda event: None)
    kinds = [set(line["loss_by_modality"]) for line in read_metrics(tmp_path / "out")]
    assert all("audio" not in found or len(found) > 1 for found in kinds[:3])
    assert kinds[4:] == [{"audio"}, {"audio"}]
