"""Tars that anybody made, as WebDataset reads them: neighbouring files of one name are a sample.

Here: from members to fields and blobs, where a sample ends.
Elsewhere: headers, and what no tar may hold (store.foreign), names (store.tar_index), partitions and cursors
(record_files.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardkit.errors import Refused, ShardDamaged, SourceDamaged
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.places import Place
from shardkit.sources.record_files import Found, Mark, RecordFiles, advance
from shardkit.sources.strict_json import parse_object
from shardkit.spec import Limits, ShardsSource
from shardkit.store.foreign import ForeignFile, ForeignLimits, ForeignReader
from shardkit.store.tar_index import split_name

TEXTS = frozenset(
    (
        "txt",
        "text",
        "caption",
        "transcript",
        "cls",
        "label",
        "md",
        "html",
        "css",
        "js",
        "py",
        "srt",
        "vtt",
        "csv",
        "xml",
    )
)
"""Extensions of members that are text; all but these and json stay bytes, whatever is in them."""
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
                yield Found(mark.offset + sample.end, self._row(sample, path))

    def _samples(self, reader: ForeignReader) -> Iterator[Members]:
        sample: Members | None = None
        for file in reader.files():
            split = None if file.is_folder else split_name(file.name)
            if split is None:
                continue
            if sample is not None and sample.name != split[0]:
                yield sample
                sample = None
            sample = sample or Members(split[0], self.limits.member_bytes)
            sample.take(split[1], file, reader)
        if sample is not None:
            yield sample

    def _row(self, sample: Members, path: str) -> Row | BadRow:
        position = f"{path}:{sample.name}"
        if sample.refusal:
            return BadRow(position=position, reason="too-big", detail=sample.refusal)
        try:
            fields = self._fields(sample)
        except Refused as refused:
            return BadRow(position=position, reason=refused.reason, detail=refused.detail)
        blobs = {name: data for name, data in sample.members.items() if name.rpartition(".")[2] not in TEXTS}
        for choice in self._choices:  # `jpg;png` is whichever there is
            there = next((name for name in choice.split(";") if name in sample.members), "")
            if there in blobs:
                blobs[choice] = blobs[there]
            elif there in fields:
                fields[choice] = fields[there]
        return Row(position=position, fields=fields, blobs=blobs)

    def _fields(self, sample: Members) -> dict[str, Any]:
        """The fields of its json, with its texts by extension. Raises Refused (not JSON, not UTF-8)."""
        fields: dict[str, Any] = {"__key__": sample.name}
        for name, data in sample.members.items():
            extension = name.rpartition(".")[2]
            if name == "json":
                fields |= parse_object(data)
            elif extension in TEXTS:
                try:
                    fields[name] = data.decode("utf-8-sig")
                except UnicodeDecodeError:
                    raise Refused("not-utf8", name) from None
        return fields


@contextmanager
def _damage() -> Iterator[None]:
    """A tar that is cut or hostile, as a source says it."""
    try:
        yield
    except ShardDamaged as error:
        raise SourceDamaged(f"{error}; replace it with a whole copy") from None


class Members:
    """One sample while its files come by. `end` is where the file behind its last one begins."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.end, self.refusal = name, 0, ""
        self.members: dict[str, bytes] = {}
        self._limit, self._bytes = limit, 0

    def take(self, member: str, file: ForeignFile, reader: ForeignReader) -> None:
        """Read a file as the next member; beyond the limit it is only passed over."""
        self._bytes += file.size
        if self._bytes > self._limit:
            self.refusal = f"members of more than {self._limit} bytes"
            self.members.clear()
        data = [piece for piece in reader.pieces() if not self.refusal]
        if not self.refusal:
            self.members[member] = b"".join(data)
        self.end = reader.at
