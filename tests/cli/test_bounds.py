"""`build` with bounds on the command line: totals, budgets, borrowing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardkit.cli.build import default_folder
from tests.build.making import notes, questions, run_command, save_spec, spec_of, write_questions


def test_total_and_borrow_on_the_command(tmp_path: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(6))
    spec = save_spec(tmp_path / "spec.yaml", spec_of(questions(path, ratio=0.5), notes("a", 90, ratio=0.5)))
    done = run_command(
        "build", spec, "--out", tmp_path / "out", "--total", "40", "--borrow", "--workers", "0", "--json"
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["missing"] for event in events if event["event"] == "shortage"] == [14]
    assert events[-1] | {"samples": 40, "shortages": {"questions": 14}, "missing": 0} == events[-1]
    status = json.loads(run_command("status", tmp_path / "out", "--json").stdout)
    assert [short["source"] for short in status["shortages"]] == ["questions"]


def test_budget_on_the_command(tmp_path: Path) -> None:
    spec = save_spec(tmp_path / "spec.yaml", spec_of(notes("a", 300)))
    done = run_command("build", spec, "--out", tmp_path / "out", "--budget", "50kB", "--workers", "0")
    assert done.returncode == 0, done.stderr
    assert "source a ended with its budget: 5" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--sample", "3", "--total", "9"), "give one of them"),
        (("--budget", "much"), "wanted a size such as 20GB"),
        (("--borrow",), "add --total N"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    spec = save_spec(tmp_path / "spec.yaml", spec_of(notes("a", 3)))
    done = run_command("build", spec, "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_bounds_are_part_of_the_default_folder() -> None:
    assert default_folder("a", None) == Path("data/a")
    assert default_folder("a", "default") == Path("data/a-sample-default")
    assert default_folder("a", None, 1000, "20GB") == Path("data/a-total-1000-budget-20GB")
