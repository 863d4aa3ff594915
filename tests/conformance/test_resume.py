"""A part of `python -m tools.conformance resume`: random chains of jobs give exactly what the oracle says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardkit.read import word
from shardkit.read.order import EpochOrder
from tools.conformance import resume
from tools.conformance.__main__ import main

CASES = 80


def test_random_chains_of_jobs_give_exactly_the_rest(tmp_path: Path) -> None:
    results = list(resume.try_cases(CASES, seed=1, folder=tmp_path))
    assert [problem for result in results for problem in result.problems] == []
    assert len(results) == CASES and sum(result.resumes for result in results) > CASES
    assert {result.kind for result in results} == {"dataset", "filtered", "mixture", "packed"}


def test_another_order_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = EpochOrder.locate_many

    def wrong(self: EpochOrder, positions: Any) -> Any:
        shards, ordinals = right(self, positions)
        return shards[::-1], ordinals[::-1]

    monkeypatch.setattr(EpochOrder, "locate_many", wrong)
    results = list(resume.try_cases(10, seed=1, folder=tmp_path))
    assert {result.kind for result in results if result.problems} >= {"dataset", "packed"}


def test_another_mix_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "DISTANCES", ())
    word.word_of.cache_clear()
    results = list(resume.try_cases(20, seed=2, folder=tmp_path))
    word.word_of.cache_clear()
    assert "mixture" in {result.kind for result in results if result.problems}


def test_command_counts_cases_and_mismatches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "--cases", "5", "--seed", "3"]) == 0
    assert "cases 5" in capsys.readouterr().out
