"""What every kind of source promises: partitions that cover it, and cursors that resume exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shardkit.sources.table import open_source
from tests.sources.kinds import KINDS, Opened

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_rows_behind_a_cursor_are_the_rest(
    kind: str, partitions: int, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    source = opened(KINDS[kind](tmp_path))
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        for at, step in enumerate(steps):
            stored = json.loads(json.dumps(step.cursor))  # cursors pass through commits
            assert source.steps(partition, partitions, stored) == steps[at + 1 :]


@every_kind
@pytest.mark.parametrize("partitions", [2, 3, 7, 40])
def test_partitions_are_disjoint_and_cover_the_source(
    kind: str, partitions: int, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    source = opened(KINDS[kind](tmp_path))
    whole = {row.position: row for row in source.rows()}
    parts = [step.row for partition in range(partitions) for step in source.steps(partition, partitions)]
    assert len(parts) == len(whole)
    assert {row.position: row for row in parts} == whole


@every_kind
def test_rows_and_revision_are_the_same_again(kind: str, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    spec = KINDS[kind](tmp_path)
    first, again = opened(spec), opened(spec)
    assert first.pinned == again.pinned
    assert first.steps() == again.steps()
    assert first.pinned.rows in (None, len(first.steps()))


@every_kind
def test_opening_touches_nothing(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert open_source(spec, 0).missing_tool() == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["files", "one plain jsonl", "many jsonl", "one csv", "many json", "parquet", "git"])
def test_revision_does_not_depend_on_the_place(kind: str, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    spec = KINDS[kind](tmp_path)
    here = opened(spec)
    positions = [row.position for row in here.rows()]
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    location = spec.LOCATIONS[0]
    elsewhere = {location: str(moved / Path(getattr(spec, location)).relative_to(tmp_path))}
    there = opened(type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | elsewhere))
    assert there.pinned.revision == here.pinned.revision
    assert [row.position for row in there.rows()] == positions
