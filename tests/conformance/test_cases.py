"""A part of every case of the conformance table: ours holds; that the cases can tell is seen on webdataset."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.conformance.cases import CASES, Case, run_case
from tools.conformance.process import Answer, Tool, tools_of
from tools.conformance.table import as_json, as_markdown
from tools.conformance.verdict import LEGEND, Cell, judge

TRIALS = 6
FEW = 2
"""Of the cases that start processes, or wait for a server: each trial takes a second."""

TELLING = {
    "own tar of 200 members cut at every member": {"lost", "silent-wrong"},
    "own tar without one of its members": {"silent-wrong"},
    "duplicate keys": {"silent-wrong", "repeated"},
}


@pytest.fixture(scope="module")
def tools() -> Iterator[dict[str, Tool | None]]:
    with tools_of(["shardkit", "webdataset"]) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ours_is_exact_or_notices(case: Case, tools: dict[str, Tool | None]) -> None:
    tool = tools["shardkit"]
    assert tool is not None
    slow = case.name.startswith("server") or "ranks" in case.name or "another" in case.name
    cell = run_case(case, tool, FEW if slow else TRIALS, seconds=0)
    assert cell.good, f"{cell}: {cell.words}"


@pytest.mark.parametrize("case", [case for case in CASES if case.name in TELLING], ids=lambda case: case.name)
def test_cases_can_tell(case: Case, tools: dict[str, Tool | None]) -> None:
    tool = tools["webdataset"]
    if tool is None:
        pytest.skip("webdataset is not installed")
    assert set(run_case(case, tool, 2 * TRIALS, seconds=0).trials) & TELLING[case.name]


def test_verdicts() -> None:
    wanted = ["a", "b", "c"]
    for seen, error, died, word in (
        (["a", "b", "c"], "", "", "exact"),
        (["b", "a", "c"], "", "", "every sample once"),
        (["a"], "E", "", "noticed"),
        (["x"], "E", "", "silent-wrong"),
        (["a", "b"], "", "", "lost"),
        (["a", "a", "b", "c"], "", "", "repeated"),
        ([], "", "no answer", "no answer"),
    ):
        verdict = judge(Answer(list(seen), [], error, died), wanted)
        assert verdict.word == word and word in LEGEND


def test_table_names_every_cell_and_configuration(tools: dict[str, Tool | None]) -> None:
    cell = Cell({"lost": 2, "exact": 1}, {"lost": 5})
    shown = as_markdown({"a case": dict.fromkeys(tools, cell)}, tools)
    assert "| a case | exact 1, lost 5 (in 2) |" in shown and "*lost*" in shown and "**shardkit**" in shown
    assert '"lost": 2' in as_json({"a case": dict.fromkeys(tools, cell)}, tools)
