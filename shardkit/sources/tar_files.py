"""Tars that anybody made, as WebDataset reads them: neighbouring files of one name are a sample.

Here: where a sample ends.
Elsewhere: from members to fields and blobs (members.py), headers and what no tar may hold (store.foreign), names
(store.tar_index), partitions and cursors (record_files.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardkit.errors import ShardDamaged, SourceDamaged
from shardkit.records.row import Cursor
from shardkit.sources.base import Pinned, Step
from shardkit.sources.members import Members, row_of_members
from shardkit.sources.places import Place
from shardkit.sources.record_files import Found, Mark, RecordFiles, advance
from shardkit.spec import Limits, ShardsSource
from shardkit.store.foreign import ForeignFile, ForeignLimits, ForeignReader
from shardkit.store.tar_index import split_name

READING = ForeignLimits(unended=True)


class TarFiles:
    """Tars of a place, a sample a row."""

    def __init__(self, spec: ShardsSource, place: Place, include: tuple[str, ...], limits: Limits) -> None:
        self.spec, self.limits, self._include = spec, limits, include
        self._files = RecordFiles(spec.name, place, self._read, self._check)
        self._choices = [name for name in spec.columns.values() if ";" in name]

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the tars and look at the first header of each."""
        return self._files.pin(folder, self._include)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a sample; see RecordFiles."""
        return self._files.rows(folder, partition, partitions, cursor)

    def _check(self, stream: io.BufferedReader, path: str) -> None:
        with _damage():
            next(self._reader(stream, path).files(), None)

    def _reader(self, stream: io.BufferedReader, path: str) -> ForeignReader:
        return ForeignReader(stream, f"source {self.spec.name}: {path}", READING)

    def _read(self, stream: io.BufferedReader, path: str, mark: Mark) -> Iterator[Found]:
        advance(stream, 0, mark.offset)
        with _damage():
            for sample in self._samples(self._reader(stream, path)):
                row = row_of_members(sample, f"{path}:{sample.name}", self._choices)
                yield Found(mark.offset + sample.end, row)

    def _samples(self, reader: ForeignReader) -> Iterator[TarMembers]:
        sample: TarMembers | None = None
        for file in reader.files():
            split = None if file.is_folder else split_name(file.name)
            if split is None:
                continue
            if sample is not None and sample.name != split[0]:
                yield sample
                sample = None
            sample = sample or TarMembers(split[0], self.limits.member_bytes)
            sample.take(split[1], file, reader)
        if sample is not None:
            yield sample


@contextmanager
def _damage() -> Iterator[None]:
    """A tar that is cut or hostile, as a source says it."""
    try:
        yield
    except ShardDamaged as error:
        raise SourceDamaged(f"{error}; replace it with a whole copy") from None


class TarMembers(Members):
    """One sample while its files come by. `end` is where the file behind its last one begins."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, limit)
        self.end = 0

    def take(self, member: str, file: ForeignFile, reader: ForeignReader) -> None:
        """Read a file as the next member; beyond the limit it is only passed over."""
        wanted = self.room_for(file.size)
        data = [piece for piece in reader.pieces() if wanted]
        if wanted:
            self.members[member] = b"".join(data)
        self.end = reader.at
