"""JSON that the trainer writes is JSON: no reader meets NaN or Infinity, and what it was stands beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.cli.options import print_event
from trainer.failure import SkippedFile, read_skipped
from trainer.metrics import Metrics, plot_loss, read_evaluations, read_metrics, write_page
from trainer.records import is_number, marked, strict_json, write_json
from trainer.spec import MetricsSpec

NAN, INF = float("nan"), float("inf")


def strict(text: str) -> Any:
    """JSON as RFC 8259 has it."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=3), VALUES, max_size=4))
def test_any_object_is_strict_json_and_finite_ones_come_back(entry: dict[str, Any]) -> None:
    found = strict(strict_json(marked(entry)))
    if "not_finite" not in found:
        assert found == entry
    else:
        assert set(found["not_finite"].values()) <= {"nan", "inf", "-inf"}


def test_what_was_not_finite_is_null_and_named() -> None:
    entry = {"loss": NAN, "by": {"image": -INF, "text": 1.0}, "list": (1.0, INF), "step": 2}
    assert strict(strict_json(marked(entry))) == {
        "loss": None, "by": {"image": None, "text": 1.0}, "list": [1.0, None], "step": 2,
        "not_finite": {"loss": "nan", "by.image": "-inf", "list.1": "inf"},
    }  # fmt: skip
    assert marked({"loss": 1.0}) == {"loss": 1.0}


def test_figures_of_finite_numbers_are_the_bytes_that_they_were() -> None:
    entry = {"step": 3, "loss": 0.1 + 0.2, "by": {"é": 1e-300, "n": 10**20}, "left_out": {}, "damaged": ("a/1",)}
    assert strict_json(marked(entry)) == json.dumps(entry)


def test_every_file_of_a_run_is_strict_json_and_its_readers_take_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, MetricsSpec())
    for step, loss in ((1, 4.0), (2, NAN), (3, 3.0)):
        metrics.write({"step": step, "loss": loss, "loss_by_modality": {"image": loss, "text": 1.0}, "seconds": 1.0})
    metrics.write_evaluation({"step": 2, "loss": 2.0, "by_modality": {"image": 2.0}, "samples": {"image": 1}})
    metrics.write_evaluation({"step": 3, "loss": INF, "by_modality": {"image": INF}, "samples": {"image": 1}})
    skipped = SkippedFile(tmp_path, 0)
    skipped.write({"step": 2, "reason": "not finite", "loss": NAN, "gradient_norm": INF, "keys": ["a"]})
    write_json(tmp_path / "held_out.json", {"after": {"loss": NAN}})
    assert metrics.held_out_loss is None
    metrics.close()
    for name in ("metrics.jsonl", "eval.jsonl", "skipped.jsonl"):
        for line in (tmp_path / name).read_text().splitlines():
            strict(line)
    assert strict((tmp_path / "held_out.json").read_text()) == {"after": {"loss": None}}
    assert read_metrics(tmp_path)[1]["loss"] is None
    assert read_metrics(tmp_path)[1]["not_finite"] == {"loss": "nan", "loss_by_modality.image": "nan"}
    assert read_skipped(tmp_path)[0]["not_finite"] == {"loss": "nan", "gradient_norm": "inf"}
    assert plot_loss(tmp_path) and write_page(tmp_path)
    assert "<dt>held-out loss</dt><dd>inf</dd>" in (tmp_path / "metrics.html").read_text()


def test_a_resume_makes_lines_of_an_older_version_strict(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.0}\n{"step": 3}\n')
    (tmp_path / "eval.jsonl").write_text('{"step": 1, "loss": Infinity}\n')
    Metrics(tmp_path, 2, MetricsSpec()).close()
    Metrics(tmp_path, 2, MetricsSpec()).close()
    assert [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "loss": None, "not_finite": {"loss": "nan"}},
        {"step": 2, "loss": 1.0},
    ]
    assert read_evaluations(tmp_path) == [{"step": 1, "loss": None, "not_finite": {"loss": "inf"}}]


def test_an_event_is_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_event({"event": "step", "loss": NAN})
    assert strict(capsys.readouterr().out) == {"event": "step", "loss": None, "not_finite": {"loss": "nan"}}


def test_numbers_read_from_json_are_told_from_what_is_none() -> None:
    assert [is_number(value) for value in (0, 1.5, None, NAN, INF, True, "1")] == [True, True, *[False] * 5]
