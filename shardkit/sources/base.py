"""What every source offers to the build.

Here: the protocol and the structs that cross it.
Elsewhere: the kinds (a file each), the table of them (table.py), where files lie (places.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from shardkit.records.row import Cursor, Row


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A source made concrete.

    `revision` identifies its content (a digest or a commit), never its location; `toolchain` names what makes its
    rows (component to version: git, generator fonts, espeak-ng; empty for plain files); `rows` is the exact number
    of rows where it is known at no cost, and `bytes` their size, for estimates. `reread` says what a resume must read
    again because it has no random access (empty: nothing). `note` is for the user and stands in the manifest: that it
    has another name now.
    """

    revision: str
    toolchain: dict[str, str] = {}
    rows: int | None = None
    bytes: int | None = None
    reread: str = ""
    note: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One row, one refusal, or rows passed over, and the cursor just behind it.

    `row` is a Row, a BadRow for a record that cannot even be a row, or Passed for rows that are not wanted.
    `size` is about how many bytes it holds, where the source knows that without looking (0: it does not).
    """

    row: Row | BadRow | Passed
    cursor: Cursor
    size: int = 0


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A record that cannot even be a row (a line that is not JSON): becomes a dead letter."""

    position: str
    reason: str
    detail: str = ""


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that the source's `where` passes over, one after the other up to `position`: no samples, no dead letters."""

    position: str
    count: int


class Source(Protocol):
    """One source, opened from its spec. Opening is cheap and touches nothing.

    `folder` is a private folder under the dataset's .build where the source may keep what it pinned (a listing of
    files with their digests, a clone): written by `pin`, read by `rows`, possibly in another process.
    """

    def missing_tool(self) -> str:
        """Empty where this source can run here; else which tool is missing and how to install it."""
        ...

    def pin(self, folder: Path) -> Pinned:
        """Look at the source and fix what will be read. Raises SpecError (missing, empty, unreadable), SourceFailed."""
        ...

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows of one partition behind `cursor`, in a fixed order that depends only on what was pinned.

        Partitions are disjoint and cover the source. Raises SourceFailed (transient), SourceChanged (the bytes are
        not those pinned any more).
        """
        ...
