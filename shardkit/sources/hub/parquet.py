"""Parquet files of a repository: only the wanted columns, piece by piece, by ranges.

Here: partitions and cursors that need no look at any other file.
Elsewhere: rows and columns (sources.parquet), the stream beneath (remote.py), media named by a path (media.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from shardkit.errors import SourceDamaged
from shardkit.records.row import Cursor
from shardkit.sources.base import Step
from shardkit.sources.hub.media import Media
from shardkit.sources.listing import Entry, read_listing
from shardkit.sources.parquet import BATCH_ROWS, check_scanned, group_fields, needed_columns, row_of
from shardkit.sources.places import Place
from shardkit.sources.sampling import Scanned
from shardkit.sources.walk import shown
from shardkit.spec import HubSource

COLUMN_BYTES = 1 << 20
"""Of a column that are fetched at once: what is held of a row group does not grow with it."""


class Footers(NamedTuple):
    """What the footers of files tell: an Arrow schema, and how many rows there are."""

    schema: Any
    rows: int | None


class RemoteParquet:
    """Row groups of the listed files. Of at least P files partition p takes every P-th; of fewer, every P-th row group.

    A resumed row group is fetched again from its beginning: its pages have no cheap random access.
    """

    def __init__(self, spec: HubSource, place: Place, media: Media) -> None:
        self._spec, self._place, self._media = spec, place, media

    def check(self, entry: Entry) -> None:
        """Raises SpecError where a file has none of the columns, SourceDamaged where it is no parquet."""
        with self._opened(entry) as file:
            needed_columns(self._spec, file.schema_arrow.names, shown(entry.path))

    def footers(self, folder: Path, most: int) -> Footers:
        """The first file's schema; rows of all files where there are at most `most`."""
        entries = list(islice(read_listing(folder, self._spec.name), most + 1))
        with self._opened(entries[0]) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        if len(entries) > most:
            return Footers(schema, None)
        for entry in entries[1:]:
            with self._opened(entry) as file:
                rows += file.metadata.num_rows
        return Footers(schema, rows)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows in order; the cursor: file in the listing, row group in it, rows of that which are done."""
        first, start, done = (int(cursor[name]) for name in ("file", "group", "row")) if cursor else (0, 0, 0)
        by_files = sum(1 for _ in read_listing(folder, self._spec.name)) >= partitions
        for index, entry in enumerate(read_listing(folder, self._spec.name)):
            if index < first or (by_files and index % partitions != partition):
                continue
            with self._opened(entry) as file:
                before = 0
                for group in range(file.metadata.num_row_groups):
                    here = (index, group) == (first, start)
                    if (index, group) >= (first, start) and (by_files or (index + group) % partitions == partition):
                        yield from self._group(file, (index, group, before), entry, done if here else 0)
                    before += file.metadata.row_group(group).num_rows

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every row's wanted columns, of which those alone are fetched; without any, footers suffice."""
        for index, entry in enumerate(read_listing(folder, self._spec.name)):
            with self._opened(entry) as file:
                check_scanned(self._spec, file.schema_arrow.names, columns, shown(entry.path))
                for group in range(file.metadata.num_row_groups):
                    for at, fields in enumerate(group_fields(file, group, columns)):
                        yield Scanned(fields, {"file": index, "group": group, "row": at})

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """Within a row group, which an opened file decodes up to the row in any case."""
        here = (0, 0) if at is None else (at["file"], at["group"])
        return here == (wanted["file"], wanted["group"])

    def _group(self, file: Any, at: tuple[int, int, int], entry: Entry, done: int) -> Iterator[Step]:
        index, group, before = at
        path, number = shown(entry.path), 0
        columns = needed_columns(self._spec, file.schema_arrow.names, path)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
            for offset in range(max(0, min(done - number, batch.num_rows)), batch.num_rows):
                row = number + offset + 1
                found = self._media.complete(row_of(f"{path}:{before + row}", batch.slice(offset, 1)), path)
                yield Step(row=found, cursor={"file": index, "group": group, "row": row})
            number += batch.num_rows

    @contextmanager
    def _opened(self, entry: Entry) -> Iterator[Any]:
        import pyarrow
        import pyarrow.parquet

        with self._place.open(entry) as stream:
            try:
                with pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=COLUMN_BYTES) as file:
                    yield file
            except (pyarrow.ArrowException, OSError):
                raise SourceDamaged(
                    f"source {self._spec.name}: {shown(entry.path)} is not a whole parquet file; tell its owner, or "
                    "leave it out with `data_files`"
                ) from None
