"""Parquet files: a row a row, by row groups.

Here: partitions and cursors over row groups, structs of {bytes, path} as blobs.
Elsewhere: digests of the files (listing.py); which columns a normaliser reads (records.normalize).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from shardkit.errors import SourceDamaged, SpecError
from shardkit.records.normalize import columns_read
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.listing import Entry, read_listing
from shardkit.sources.patterns import selector
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.sampling import Scanned
from shardkit.sources.walk import shown
from shardkit.spec import ParquetSource, SourceSpec

BATCH_ROWS = 16
"""Rows decoded at once: rows may hold images."""

SCANNED_ROWS = 1024
"""Rows of some columns decoded at once."""


class Parquet:
    """A `parquet` source. Partition p of P takes the row groups whose number in the whole source is p modulo P.

    `place` is where its files lie: the local folder of its spec, unless another is given.
    """

    def __init__(self, spec: ParquetSource, place: Place | None = None) -> None:
        self.spec = spec
        self._place = place or LocalPlace(spec.path, spec.name)

    def missing_tool(self) -> str:
        """Empty: pyarrow comes with shardkit."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the files with their digests and read their footers; raises SpecError for one that is cut."""
        spec = self.spec
        revision, _, total = self._place.pin(folder, selector(spec.include, (), spec.name))
        rows = 0
        for entry in read_listing(folder, spec.name):
            try:
                with self._opened(entry) as file:
                    self._columns(file, entry)
                    rows += file.metadata.num_rows
            except SourceDamaged as error:
                raise SpecError(str(error)) from None
        if not rows:
            raise SpecError(f"source {spec.name}: its parquet files have no rows")
        return Pinned(revision=revision, rows=rows, bytes=total)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows in order; the cursor: row group in the whole source, rows of it that are done."""
        start, done = (int(cursor["group"]), int(cursor["row"])) if cursor else (0, 0)
        group = 0
        for entry in read_listing(folder, self.spec.name):
            with self._opened(entry) as file:
                first = 0
                for number in range(file.metadata.num_row_groups):
                    if group >= start and group % partitions == partition:
                        skip = done if group == start else 0
                        for at, record in self._group_rows(file, entry, number, skip):
                            position = f"{shown(entry.path)}:{first + at + 1}"
                            yield Step(row=row_of(position, record), cursor={"group": group, "row": at + 1})
                    first += file.metadata.row_group(number).num_rows
                    group += 1

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every row's wanted columns, of which those alone are read; without any, footers suffice."""
        group = 0
        for entry in read_listing(folder, self.spec.name):
            with self._opened(entry) as file:
                check_scanned(self.spec, file.schema_arrow.names, columns, shown(entry.path))
                for number in range(file.metadata.num_row_groups):
                    for at, fields in enumerate(group_fields(file, number, columns)):
                        yield Scanned(fields, {"group": group, "row": at})
                    group += 1

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """Within a row group, which an opened file decodes up to the row in any case."""
        return (0 if at is None else at["group"]) == wanted["group"]

    def _group_rows(self, file: Any, entry: Entry, number: int, skip: int) -> Iterator[tuple[int, Any]]:
        """(row in the group, a record batch of that row) from row `skip` on; those before it are only decoded."""
        at = 0
        columns = self._columns(file, entry)
        batches = file.iter_batches(batch_size=BATCH_ROWS, row_groups=[number], columns=columns, use_threads=False)
        for batch in batches:
            behind = max(0, min(skip - at, batch.num_rows))
            for offset in range(behind, batch.num_rows):
                yield at + offset, batch.slice(offset, 1)
            at += batch.num_rows

    def _columns(self, file: Any, entry: Entry) -> list[str]:
        return needed_columns(self.spec, file.schema_arrow.names, shown(entry.path))

    @contextmanager
    def _opened(self, entry: Entry) -> Iterator[Any]:
        """A pyarrow ParquetFile over the pinned bytes; what pyarrow cannot read is SourceDamaged."""
        import pyarrow
        import pyarrow.parquet

        with self._place.open(entry) as stream:
            try:
                with pyarrow.parquet.ParquetFile(stream, pre_buffer=False) as file:
                    yield file
            except (pyarrow.ArrowException, OSError):
                raise SourceDamaged(
                    f"source {self.spec.name}: {shown(entry.path)} is not a whole parquet file; "
                    "replace it with a whole copy"
                ) from None


def needed_columns(spec: SourceSpec, there: Sequence[str], path: str) -> list[str]:
    """The columns of a file that the source's normaliser reads. Raises SpecError where it has none of them."""
    names = (name if name in there else name.split(".")[0] for name in columns_read(spec))
    wanted = [name for name in dict.fromkeys(names) if name in there]
    if not wanted:
        raise SpecError(
            f"source {spec.name}: {path} has none of the columns that {spec.normalizer} reads "
            f"({', '.join(columns_read(spec))}); it has: {', '.join(there)}; map them under `columns`"
        )
    return wanted


def check_scanned(spec: SourceSpec, there: Sequence[str], columns: Sequence[str], path: str) -> None:
    """Raises SpecError where a file lacks a column to sample by; points lead to fields of structs."""
    for column in columns:
        if column not in there and column.split(".")[0] not in there:
            raise SpecError(
                f"source {spec.name}: {path} has no column {column} to sample by; it has: {', '.join(there)}"
            )


def group_fields(file: Any, number: int, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The given columns of each row of a group of a pyarrow ParquetFile."""
    if not columns:
        yield from repeat({}, file.metadata.row_group(number).num_rows)
        return
    batches = file.iter_batches(batch_size=SCANNED_ROWS, row_groups=[number], columns=list(columns), use_threads=False)
    for batch in batches:
        yield from batch.to_pylist()


def row_of(position: str, record: Any) -> Row | BadRow:
    """The row of a record batch with one row."""
    try:
        [values] = record.to_pylist()
    except UnicodeDecodeError:
        return BadRow(position=position, reason="not-utf8", detail="a text column")
    except (ValueError, OverflowError):
        return BadRow(position=position, reason="schema", detail="a value out of range, such as a date")
    return row_from(position, values)


def row_from(position: str, values: Mapping[str, Any]) -> Row:
    """A row of plain values: bytes, structs of {bytes, path} and lists of these become blobs."""
    fields: dict[str, Any] = {}
    blobs: dict[str, bytes] = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            blobs[name] = value
        elif _is_medium(value):
            _add_medium(name, value, fields, blobs)
        elif isinstance(value, list) and value and all(_is_medium(entry) for entry in value):
            for at, entry in enumerate(value):
                _add_medium(f"{name}.{at}", entry, fields, blobs)
        else:
            fields[name] = value
    return Row(position=position, fields=fields, blobs=blobs)


def _is_medium(value: Any) -> bool:
    return isinstance(value, dict) and "bytes" in value and set(value) <= {"bytes", "path"}


def _add_medium(name: str, value: dict[str, Any], fields: dict[str, Any], blobs: dict[str, bytes]) -> None:
    fields[f"{name}.path"] = value.get("path")
    if isinstance(value["bytes"], bytes):
        blobs[name] = value["bytes"]
