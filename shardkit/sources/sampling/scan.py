"""Looking at all rows of a source without keeping them: where each begins, and the columns that sampling needs.

Here: the pass, and what a source may offer to make it cheap.
Elsewhere: what is chosen (choose.py), kinds of sources (the room).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from shardkit.records.row import Cursor, Row
from shardkit.sources.base import Passed, Step


class Scanned(NamedTuple):
    """A row that was looked at: some of its columns, and the cursor just before it (none: the source's beginning).

    `passed`: it tells of rows that are not wanted.
    """

    fields: Mapping[str, Any]
    before: Cursor | None
    passed: bool = False


class Reads(Protocol):
    """What gives rows as a source does."""

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """See Source."""
        ...


@runtime_checkable
class Scans(Protocol):
    """A source that can look at its rows at less cost than reading them."""

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every row that `rows` of one partition yields, refused ones too, in the same order.

        `columns` are those wanted, fields of structs with points; others may come with them.
        """
        ...


@runtime_checkable
class ReadsOn(Protocol):
    """A source that knows when reading on costs less than opening anew."""

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """Whether a reader that stands at `at` should rather pass over rows than be opened at `wanted`, further on."""
        ...


def scan_rows(source: Reads, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
    """All rows of a source; those that are refused have no columns. Raises as `rows` does."""
    if isinstance(source, Scans):
        yield from source.scan(folder, columns)
        return
    before: Cursor | None = None
    for step in source.rows(folder, 0, 1, None):
        yield Scanned(step.row.fields if isinstance(step.row, Row) else {}, before, isinstance(step.row, Passed))
        before = step.cursor
