"""Tars in the manner of WebDataset: the files of a sample stand side by side, under one name with different ends.

Here: from members to rows, where a sample begins.
Elsewhere: the tar itself (store.foreign), partitions and cursors (record_files.py), decompression (compressed.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec

from shardkit.errors import Refused, ShardDamaged, SourceDamaged
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.places import Place
from shardkit.sources.record_files import Found, Mark, RecordFiles, advance
from shardkit.sources.strict_json import parse_object
from shardkit.store.foreign import ForeignFile, ForeignLimits, ForeignReader

TEXTS = frozenset({"txt", "text", "transcript", "caption", "cls", "cls2", "index", "inx", "id", "md", "srt", "vtt"})
LIMITS = ForeignLimits(extension_bytes=1 << 20)


def open_tars(name: str, place: Place, most_bytes: int) -> RecordFiles:
    """Tars of a place, a sample a row; a sample of more than `most_bytes` is refused."""
    reader = TarSamples(name, most_bytes)
    return RecordFiles(name, place, reader.read, lambda stream, path: None)


class Gathering:
    """The members of the sample that is being read."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.members: dict[str, bytes] = {}
        self.size = 0


class TarSamples:
    """Reads a tar from its beginning, or from the beginning of a sample in it."""

    def __init__(self, name: str, most_bytes: int) -> None:
        self._name, self._most = name, most_bytes

    def read(self, stream: io.BufferedReader, path: str, mark: Mark) -> Iterator[Found]:
        """Rows behind a mark. Raises SourceDamaged for what is no whole tar of plain files."""
        advance(stream, 0, mark.offset)
        if mark.offset and not stream.peek(1):
            return
        reader = ForeignReader(stream, f"source {self._name}: {path}", LIMITS)
        number = mark.number
        open_: Gathering | None = None
        try:
            for file in reader.files():
                key, end = split_name(file.name)
                if file.is_folder or not end:
                    continue
                if open_ is not None and open_.key != key:
                    number += 1
                    yield Found(mark.offset + file.start, self._row(open_, f"{path}:{number}"))
                    open_ = None
                open_ = open_ or Gathering(key)
                self._gather(open_, end, file, reader)
        except ShardDamaged as damaged:
            raise SourceDamaged(str(damaged)) from None
        if open_ is not None:
            yield Found(mark.offset + reader.at, self._row(open_, f"{path}:{number + 1}"))

    def _gather(self, sample: Gathering, end: str, file: ForeignFile, reader: ForeignReader) -> None:
        sample.size += file.size
        if sample.size <= self._most:
            sample.members[end] = b"".join(reader.pieces())
        else:
            sample.members.clear()

    def _row(self, sample: Gathering, position: str) -> Row | BadRow:
        if sample.size > self._most:
            return BadRow(position=position, reason="too-big", detail=f"a sample of {sample.size} bytes")
        fields: dict[str, Any] = {"__key__": sample.key}
        blobs = {}
        try:
            for end, data in sample.members.items():
                kind = end.rpartition(".")[2]
                if kind == "json":
                    fields |= _json_fields(end, data)
                elif kind in TEXTS:
                    fields[end] = data.decode()
                else:
                    blobs[end] = data
        except UnicodeDecodeError:
            return BadRow(position=position, reason="not-utf8", detail="a text member")
        except Refused as refused:
            return BadRow(position=position, reason=refused.reason, detail=refused.detail)
        return Row(position=position, fields=fields, blobs=blobs)


def split_name(name: str) -> tuple[str, str]:
    """(key, end) of a member: the end begins at the first point of its last part, and is in lower case."""
    while name.startswith("./"):
        name = name[2:]
    folder, slash, last = name.rpartition("/")
    stem, _, end = last.partition(".")
    return f"{folder}{slash}{stem}", end.lower() if stem else ""


def _json_fields(end: str, data: bytes) -> dict[str, Any]:
    """A JSON object under its end, and each of its values under `end.name`; another JSON value under its end alone."""
    if data.lstrip()[:1] == b"{":
        value = parse_object(data)
        return {end: value, **{f"{end}.{name}": entry for name, entry in value.items()}}
    try:
        return {end: msgspec.json.decode(data)}
    except (msgspec.DecodeError, RecursionError):
        raise Refused("not-json", f"a member of {len(data)} bytes") from None
