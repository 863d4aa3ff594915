"""A part of `python -m tools.conformance resume`: random chains of jobs give exactly what the oracle says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardkit.read.order import EpochOrder
from tools.conformance import resume
from tools.conformance.__main__ import main

CASES = 150


def test_random_chains_of_jobs_give_exactly_the_rest(tmp_path: Path) -> None:
    results = list(resume.try_cases(CASES, seed=1, folder=tmp_path))
    assert [problem for result in results for problem in result.problems] == []
    assert len(results) == CASES and sum(result.resumes for result in results) > CASES


def test_another_order_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = EpochOrder.locate_many

    def wrong(self: EpochOrder, positions: Any) -> Any:
        shards, ordinals = right(self, positions)
        return shards[::-1], ordinals[::-1]

    monkeypatch.setattr(EpochOrder, "locate_many", wrong)
    problems = [problem for result in resume.try_cases(10, seed=1, folder=tmp_path) for problem in result.problems]
    assert problems and all("wanted" in problem for problem in problems)


def test_command_counts_cases_and_mismatches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "--cases", "5", "--seed", "3"]) == 0
    assert "cases 5" in capsys.readouterr().out
