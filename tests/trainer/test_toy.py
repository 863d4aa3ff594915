"""The proof of seeing and hearing: its specs hold nothing out of place, its verdicts can fail, a tiny one runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shardkit import SpecError, load_spec, open_dataset, open_loader
from tests.trainer.datasets import build_small, screens, tiny_run, tones
from tools.toy import BUILD_SPEC, MEDIUM, RUN_SPEC, Row, build, main, rows_of
from trainer.eval.command import EvalJob, evaluate_run
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import ModelSpec, load_run

TINY = ("steps=3", "batch_size=4", "eval.every=2", "eval.samples=12", "eval.generate=12")


def row(own: float, blanked: float, shuffled: float) -> Row:
    return Row(category="shape", samples=300, own=own, blanked=blanked, shuffled=shuffled, chance=0.25)


def figures(own: float, without: float) -> dict[str, Any]:
    """What an evaluation gives, the same for every category."""
    shares = {f"{how}_{medium}": without for how in ("blanked", "shuffled") for medium in ("image", "audio")}
    shares["after"] = own
    return {
        name: {"answers": {"exact_match_by_category": dict.fromkeys(MEDIUM, share)}} for name, share in shares.items()
    }


def test_only_right_answers_that_need_the_medium_are_a_proof() -> None:
    assert row(0.95, 0.25, 0.3).shown
    assert not row(0.9, 0.25, 0.25).shown
    assert not row(0.95, 0.4, 0.25).shown
    assert not row(0.95, 0.25, 0.4).shown


def test_chance_is_the_share_of_the_answer_that_is_most_often_true() -> None:
    rows = rows_of(figures(1.0, 0.5), {key: Counter({"red": 3, "blue": 1}) for key in MEDIUM})
    assert [(each.category, each.chance, each.samples) for each in rows] == [(name, 0.75, 4) for name in MEDIUM]


def test_a_category_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(SpecError, match="no held-out answers about digits"):
        rows_of(figures(1.0, 0.5), {key: Counter({"red": 3}) for key in ("colour", "shape", "count")})


def test_training_reads_no_source_of_held_out_combinations(tmp_path: Path) -> None:
    spec = load_run(RUN_SPEC)
    parts = {source.name: source.parameters["combinations"] for source in load_spec(BUILD_SPEC).sources}  # type: ignore[union-attr]
    data = open_dataset(str(build(tmp_path / "data", 8)))
    for where, part in ((spec.data.where, "train"), (spec.eval.where, "held_out")):
        items = [item for batch in open_loader(data, batch_size=8, where=where) for item in batch]
        assert {parts[item.sample.source] for item in items} == {part}
        assert len(items) == 16


def test_a_tiny_proof_runs_through_and_says_that_nothing_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for setting in TINY for word in ("--set", setting)]
    arguments = ["--out", str(tmp_path), "--sample", "12", *settings]
    assert main([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["category"] for each in found["rows"]] == list(MEDIUM)
    assert sum(each["samples"] for each in found["rows"]) == 24
    assert not found["shown"]
    assert found["steps"] == 3
    assert Path(found["curve"]).read_bytes().startswith(b"\x89PNG")
    assert "<img" in Path(found["page"]).read_text(encoding="utf-8")
    assert main(arguments) == 1  # what is done is not done again
    table = capsys.readouterr().out
    assert table.count("NOT SHOWN") == 4
    assert "chance" in table


def test_bad_settings_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--set", "no_such=1"]) == 2
    assert "no_such" in capsys.readouterr().err


def test_held_out_samples_by_a_filter_are_measured_and_not_trained_on(tmp_path: Path, tiny_spec: ModelSpec) -> None:
    data = build_small(tmp_path / "data", screens(12), tones(12))
    spec = tiny_run(
        tiny_spec,
        data={"max_tokens": 128, "held_out": 0, "where": "source=screens"},
        eval={"samples": 50, "where": "source=tones"},
    )
    outcome = train(spec, str(data), tmp_path / "run", report=lambda event: None, measure=open_measure())
    assert outcome.held_out["after"]["samples"] == {"audio": 12}
    assert all(set(line["loss_by_modality"]) == {"image"} for line in read_metrics(tmp_path / "run"))
    assert evaluate_run(EvalJob(folder=tmp_path / "run", data=str(data), samples=50))["after"]["samples"] == {
        "audio": 12
    }
