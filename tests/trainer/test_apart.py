"""Held-out samples stay apart: by the splits that a dataset has, by filters; what would be in both is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset
from tests.trainer.datasets import build_small, generated, tiny_run
from tests.trainer.runs import quiet
from trainer.checks import check_runs
from trainer.data.apart import check_apart
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.plan import plan_run
from trainer.spec import DataSpec, ModelSpec


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty notes, a quarter of them the split `val`."""
    folder = tmp_path_factory.mktemp("apart") / "split"
    raw = {
        "name": "split",
        "sources": [generated("notes", "notes", "question_answer", 40)],
        "split": {"ratios": {"train": 0.75, "val": 0.25}},
    }
    build_dataset(convert_spec(raw, BuildSpec, "test"), out=folder, workers=0)
    return folder


def spec(model: ModelSpec, **more: Any) -> Any:
    return tiny_run(msgspec.structs.replace(model, vision=None, audio=None), steps=8, batch_size=8, **more)


def test_a_run_trains_on_one_split_and_is_measured_on_the_other(
    split: Path, tmp_path: Path, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.step

    seen: set[str] = set()
    real = trainer.step.accumulate

    def watch(run: Any, batches: Any) -> Any:
        seen.update(key for batch in batches for key in batch.keys)
        return real(run, batches)

    monkeypatch.setattr(trainer.step, "accumulate", watch)
    parts = {"data": {"held_out": 0, "where": "split=train"}, "eval": {"samples": 100, "where": "split=val"}}
    events: list[dict[str, Any]] = []
    outcome = train(spec(tiny_spec, **parts), str(split), tmp_path, report=events.append, measure=open_measure())
    opened = open_dataset(str(split))
    assert opened.splits == ("train", "val")
    assert (len(seen), outcome.held_out["after"]["samples"]) == (opened.count("split=train"), {"text": 40 - len(seen)})
    assert not [event for event in events if event["event"] == "warning"]


@pytest.mark.parametrize(("where", "taken"), [(None, 10), ("split!=test", 10), ("split=val", 10)])
def test_samples_that_would_be_trained_on_and_held_out_are_refused(
    split: Path, where: str | None, taken: int, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    parts = {"data": {"held_out": 0, "where": where}, "eval": {"where": "split=val"}}
    with pytest.raises(SpecError, match=f"{taken} samples of .* would be trained on and held out"):
        train(spec(tiny_spec, **parts), str(split), tmp_path, report=quiet)
    assert not list(tmp_path.glob("checkpoints/*"))
    with pytest.raises(SpecError, match="would be trained on and held out"):
        check_runs([spec(tiny_spec, **parts)], str(split))  # before anything is loaded


def test_every_dataset_of_a_mixture_is_looked_at(split: Path, tmp_path: Path) -> None:
    other = build_small(tmp_path / "other", generated("more", "notes", "question_answer", 6))
    mixture = open_dataset([str(other), str(split)])
    check_apart(mixture, DataSpec(where="source=notes"), "source=more")
    with pytest.raises(SpecError, match=r"6 samples of .*other would be"):
        check_apart(mixture, DataSpec(), "source=more")


def test_splits_that_nobody_asked_for_are_told(split: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    events: list[dict[str, Any]] = []
    train(spec(tiny_spec), str(split), tmp_path, report=events.append)
    (text,) = [event["text"] for event in events if event["event"] == "warning"]
    assert "is split into train, val" in text
    assert "data.where=split=train" in text and "eval.where=split=val" in text
    assert any("is split into train, val" in warning for warning in plan_run(spec(tiny_spec), str(split)).warnings)
