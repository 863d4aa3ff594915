"""Between a source's rows and the normaliser: rows that are not wanted pass by, rows that belong together become one.

Here: `where` and `unless`, groups of rows, cursors within a group.
Elsewhere: trees of messages (trees.py), what gathered rows become (records.normalize).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.records.normalize.columns import ROWS, field
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Passed, Pinned, Source, Step
from shardkit.sources.trees import TreeColumns, tree_rows
from shardkit.spec import Gather, SourceSpec
from shardkit.spec.gather import Scalar

PASSED_ROWS = 1000
"""Rows passed over that are told together: they need no cursors of their own."""

DONE = "gathered"
"""The field of a cursor that lies within a group: how many of the rows that the group becomes are behind it.

The other fields are the source's cursor before the group.
"""


def gathered(source: Source, spec: SourceSpec) -> Source:
    """The source itself, or with the spec's `where`, `unless` and `gather` between it and its reader."""
    return Gathered(source, spec) if spec.where or spec.unless or spec.gather else source


class Gathered:
    """A source of what another one's rows become."""

    def __init__(self, source: Source, spec: SourceSpec) -> None:
        self._source, self._spec = source, spec

    def missing_tool(self) -> str:
        """As the source's."""
        return self._source.missing_tool()

    def pin(self, folder: Path) -> Pinned:
        """As the source's, without the number of rows where they are gathered."""
        pinned = self._source.pin(folder)
        return msgspec.structs.replace(pinned, rows=None) if self._spec.gather else pinned

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows behind `cursor`, which may lie between two that one group became: that group is read again."""
        start, done = _split(cursor)
        with closing(_source_rows(self._source, folder, partition, partitions, start)) as steps:
            wanted = passing(steps, self._spec)
            if self._spec.gather is None:
                yield from wanted
                return
            if partitions != 1:
                raise SpecError(f"source {self._spec.name}: rows are gathered in one partition, found {partitions}")
            for group in groups(wanted, self._spec, self._spec.gather, start):
                yield from group.steps(self._spec, done) if isinstance(group, Group) else [group]
                done = 0


class Group(msgspec.Struct):
    """Rows that belong together, as they come. `before` and `after` are the cursors around them.

    Of rows that become one the first alone keeps its blobs: the others repeat them. `too_many`: none are kept.
    """

    before: Cursor | None
    after: Cursor
    key: tuple[Any, ...]
    position: str
    rows: list[Row] = []
    bytes: int = 0
    passed: int = 0
    too_many: bool = False

    def add(self, row: Row, after: Cursor, bounds: Gather) -> None:
        """Take one more row, within the bounds."""
        kept = Row(position=row.position, fields=row.fields) if self.rows else row
        self.after, self.bytes = after, self.bytes + kept.size_bytes
        self.too_many = self.too_many or len(self.rows) == bounds.max_rows or self.bytes > bounds.max_bytes
        self.rows = [] if self.too_many else self.rows
        if not self.too_many:
            self.rows.append(kept)

    def steps(self, spec: SourceSpec, done: int) -> Iterator[Step]:
        """What the group becomes, without the first `done`, each with the cursor behind it."""
        made = self._made(spec)
        for at, row in enumerate(made[done:], done + 1):
            within = {**(self.before or {}), DONE: at}
            yield Step(row=row, cursor=self.after if at == len(made) else within)

    def _made(self, spec: SourceSpec) -> list[Row | BadRow | Passed]:
        made: list[Row | BadRow | Passed] = []
        if self.too_many:
            made.append(BadRow(position=self.position, reason="too-big", detail="too many rows that belong together"))
        elif spec.gather is not None and spec.gather.tree:
            made += tree_rows(self.rows, TreeColumns.of(spec), siblings=spec.gather.siblings)
        elif self.rows:
            first = self.rows[0]
            fields = {**first.fields, ROWS: [row.fields for row in self.rows]}
            made.append(Row(position=first.position, fields=fields, blobs=first.blobs))
        return made + ([Passed(position=self.position, count=self.passed)] if self.passed else [])


def passing(steps: Iterator[Step], spec: SourceSpec) -> Iterator[Step]:
    """Steps in which rows that `where` and `unless` do not want are told as Passed, up to PASSED_ROWS together."""
    run: list[Step] = []  # none, or one that tells of all rows passed over since the last step
    count = 0
    for step in steps:
        row = step.row
        unwanted = isinstance(row, Row) and not is_wanted(row.fields, spec)
        if unwanted:
            count += 1
            run = [Step(row=Passed(position=row.position, count=count), cursor=step.cursor)]
        if not unwanted or count == PASSED_ROWS:
            yield from run
            run, count = [], 0
        if not unwanted:
            yield step
    yield from run


def is_wanted(fields: Mapping[str, Any], spec: SourceSpec) -> bool:
    """Whether a row has all that `where` says and nothing that `unless` says."""
    return all(_has(fields, column, value) for column, value in spec.where.items()) and not any(
        _has(fields, column, value) for column, value in spec.unless.items()
    )


def groups(steps: Iterator[Step], spec: SourceSpec, bounds: Gather, start: Cursor | None) -> Iterator[Group | Step]:
    """Runs of rows that are equal in the columns that they share; steps between them as they are.

    Rows passed over within a group are counted in it; a record that is no row ends it.
    """
    columns = (spec.columns.get("message_tree_id", "message_tree_id"),) if bounds.tree else bounds.keys
    before, group = start, None
    for step in steps:
        row = _with_keys(step.row, columns)
        if isinstance(row, Passed) and group is not None:
            group.passed, group.after = group.passed + row.count, step.cursor
        elif isinstance(row, Row):
            key = tuple(field(row.fields, column) for column in columns)
            if group is None or group.key != key:
                yield from [group] if group else []
                group = Group(before, step.cursor, key, row.position)
            group.add(row, step.cursor, bounds)
        else:
            yield from [group] if group else []
            group = None
            yield Step(row=row, cursor=step.cursor)
        before = step.cursor
    yield from [group] if group else []


def _source_rows(
    source: Source, folder: Path, partition: int, partitions: int, start: Cursor | None
) -> Generator[Step, None, None]:
    yield from source.rows(folder, partition, partitions, start)


def _split(cursor: Cursor | None) -> tuple[Cursor | None, int]:
    """The source's own cursor, and how much of the group behind it is done."""
    inner = {name: value for name, value in (cursor or {}).items() if name != DONE}
    return inner or None, int((cursor or {}).get(DONE, 0))


def _with_keys(row: Row | BadRow | Passed, columns: tuple[str, ...]) -> Row | BadRow | Passed:
    absent = [column for column in columns if isinstance(row, Row) and field(row.fields, column) is None]
    return BadRow(position=row.position, reason="missing-field", detail=absent[0]) if absent else row


def _has(fields: Mapping[str, Any], column: str, wanted: Scalar | tuple[Scalar, ...]) -> bool:
    """Whether a column has a value, or one of several; of a list, whether an entry is it."""
    found = field(fields, column)
    values = found if isinstance(found, list) else [found]
    allowed = wanted if isinstance(wanted, tuple) else (wanted,)
    return any(_same(value, one) for value in values for one in allowed)


def _same(value: Any, wanted: Scalar) -> bool:
    """Equality in which true is not 1."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
