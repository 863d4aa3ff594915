"""The benchmarks at a tiny scale: every side that is installed is measured, compared on equal bytes, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench import measure as measuring
from tools.bench.measure import Figure, Plan, installed, measure
from tools.bench.ratios import GOALS, ratios
from tools.bench.sides import BARE, GIVEN, OURS, SIDES, WITH_TORCH
from tools.bench.table import as_json, as_markdown
from tools.bench.workloads import load, make_a, make_b

TINY = 1e-9
"""The smallest workloads: 64 images, 1,000 chats."""


def sides(*names: str) -> tuple[measuring.Side, ...]:
    return tuple(side for side in SIDES if side.name in names)


def test_our_sides_and_the_bare_disk_are_measured(tmp_path: Path) -> None:
    plan = Plan(("A",), ("write", "publish", "read", "decode"), sides(OURS, GIVEN, BARE), TINY, 1)
    figures = measure(plan, tmp_path)
    assert [(figure.task, figure.side) for figure in figures] == [
        ("write", OURS), ("write", GIVEN), ("publish", OURS), ("publish", BARE), ("read", OURS), ("decode", OURS),
    ]  # fmt: skip
    assert all(figure.value > 0 and figure.rounds == (figure.value,) for figure in figures)
    assert "fsync of files and folders" in figures[2].about
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".workload"] == []


def test_resume_is_exact_and_timed_from_the_processes_start(tmp_path: Path) -> None:
    (figure,) = measure(Plan(("B",), ("resume",), sides(OURS), TINY, 1), tmp_path)
    assert figure.about == "exact"
    assert figure.value > 0.05  # no process starts faster


@pytest.mark.parametrize("peer", ["webdataset", "MosaicML MDS"])
def test_peers_write_and_read_the_same_bytes(tmp_path: Path, peer: str) -> None:
    (side,) = sides(peer)
    if not side.installed():
        pytest.skip(f"{peer} is not installed: python3 tools/bootstrap.py --bench")
    figures = measure(Plan(("B",), ("write", "read"), (side,), TINY, 1), tmp_path)
    assert [(figure.task, figure.side) for figure in figures] == [("write", peer), ("read", peer)]


def test_side_that_gives_other_bytes_is_no_competitor() -> None:
    workload = make_b(TINY)
    fair = {"bytes": workload.size_bytes, "samples": len(workload.raw), "seconds": 2.0}
    assert measuring._rate(fair, "read", workload, SIDES[0]) == len(workload.raw) / 2
    for unfair in ({"bytes": workload.size_bytes // 2}, {"bytes": workload.size_bytes + 1}):
        with pytest.raises(RuntimeError, match="no fair comparison"):
            measuring._rate(fair | unfair, "read", workload, SIDES[0])


def test_side_that_fails_is_named_and_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = sides(OURS)[0]._replace(name="broken", work={"write": "ours:no_such"})
    assert measure(Plan(("B",), ("write",), (broken,), TINY, 1), tmp_path) == []
    assert "broken failed" in capfd.readouterr().err


def test_workload_is_the_same_after_saving(tmp_path: Path) -> None:
    workload = make_a(TINY)
    workload.save(tmp_path / "w")
    again = load(tmp_path / "w")
    assert (again.name, again.raw) == (workload.name, workload.raw)
    assert {len(record) for record, _ in workload.raw} == {623}
    assert len({image for _, image in workload.raw}) == len(workload.raw)
    assert [entry.members[0].data for entry in again.prepared] == [image for _, image in workload.raw]


def figure(workload: str, task: measuring.Task, side: str, value: float) -> Figure:
    return Figure(workload, task, side, value, (value,), "")


def test_ratios_are_ours_over_theirs_and_absent_where_a_side_was_not_measured() -> None:
    figures = [
        figure("A", "write", OURS, 30.0), figure("A", "write", "MosaicML MDS", 10.0),
        figure("A", "decode", OURS, 8.0), figure("A", "decode", "webdataset", 2.0),
        figure("A", "decode", "LitData", 4.0),
        figure("A", "resume", OURS, 1.0), figure("A", "resume", "LitData", 2.0),
    ]  # fmt: skip
    found = ratios(figures)
    assert (found["write_a_vs_mds"], found["decode_vs_best_peer"], found["resume_vs_litdata"]) == (3.0, 2.0, 0.5)
    assert found["read_b_vs_litdata"] is None
    asked = json.loads(as_json(figures))
    assert {goal.name for goal in GOALS} <= set(asked)
    assert len(asked["figures"]) == len(figures)
    for text in (as_markdown(figures), as_markdown(figures, padded=True)):
        assert "| write_a_vs_mds" in text and "| not measured" in text


def test_peers_are_left_out_unless_asked_for() -> None:
    assert {side.name for side in installed(peers=False)} <= {OURS, GIVEN, BARE, WITH_TORCH}
