"""Plain JSON lines whose media lie in files beside them: messages, modalities, paths.

Here: reading a row's media from where it says, pinned and checked; the row as the normaliser `plain` takes it.
Elsewhere: lines (jsonl.py), what is made of the row (records.normalize.plain).

A row names its media in `modalities` ({image: [{path, type, …}], …}), or in lists `images`, `audios`, `videos` of
paths. Paths are relative to the folder of the lines' file and stay within the source's folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import xxhash
from blake3 import blake3

from shardkit.errors import SourceChanged, SourceFailed
from shardkit.records.row import Cursor, Modality, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.listing import write_private
from shardkit.sources.walk import root_folder
from shardkit.spec import Limits, PlainSource
from shardkit.store import fs
from shardkit.store.scrub import scrub

PINS = "media.pins"
PIN = np.dtype([("path", "S16"), ("digest", "S16")])
"""Sorted by path: XXH3-128 of a path as a row gives it, and the first 16 bytes of the file's BLAKE3."""

LISTS: dict[Modality, tuple[str, ...]] = {
    "image": ("images", "image"),
    "audio": ("audios", "audio"),
    "video": ("videos", "video"),
}
PATHS = ("path", "file", "file_path", "filename", "url", "member")
"""Where an object that describes a medium may say where it lies; the first one that is there counts."""


class Named(NamedTuple):
    """A medium as a row names it."""

    modality: Modality
    path: str
    about: dict[str, Any]


class Plain:
    """A `plain` source."""

    def __init__(self, spec: PlainSource, limits: Limits) -> None:
        self.spec, self.limits = spec, limits
        self._lines = Jsonl(spec)
        self._pins: np.ndarray | None = None

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """Digests of the lines' files and of every file that they name; reads them all once."""
        lines = self._lines.pin(folder)
        digests: dict[bytes, bytes] = {}
        total = lines.bytes or 0
        for step in self._lines.rows(folder, 0, 1, None):
            for named in _named(step.row) if isinstance(step.row, Row) else ():
                found = self._file(step.row.position, named.path)
                mark = _mark(step.row.position, named.path)
                if found is not None and mark not in digests:
                    digests[mark], size = self._digest(named.path, found)
                    total += size
        pins = np.array(sorted(digests.items()), dtype=PIN)
        write_private(folder / PINS, [pins.tobytes()])
        revision = blake3(lines.revision.encode() + pins.tobytes()).hexdigest()
        return Pinned(revision=revision, bytes=total, reread=lines.reread)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a line, with its media as blobs `image.0`, …; the cursor is that of the lines."""
        for step in self._lines.rows(folder, partition, partitions, cursor):
            row = step.row
            yield Step(row=self._joined(row, folder), cursor=step.cursor) if isinstance(row, Row) else step

    def _joined(self, row: Row, folder: Path) -> Row | BadRow:
        blobs: dict[str, bytes] = {}
        media: list[dict[str, Any]] = []
        counts: dict[str, int] = {}
        for named in _named(row):
            found = self._file(row.position, named.path)
            if found is None:
                return BadRow(position=row.position, reason="no-media", detail=_absent(named.path))
            if found.stat().st_size > self.limits.member_bytes:
                return BadRow(position=row.position, reason="too-big", detail=f"{named.path!r}")
            at = counts[named.modality] = counts.get(named.modality, -1) + 1
            blobs[f"{named.modality}.{at}"] = self._checked(row.position, named.path, found, folder)
            media.append({**named.about, "modality": named.modality, "blob": f"{named.modality}.{at}"})
        fields = {**row.fields, "category": _text(row.fields.get("category")) or self.spec.category or "imported"}
        own = row.fields.get("id")
        fields["id"] = own if isinstance(own, str | int) and own != "" else f"{self.spec.name}/{row.position}"
        return Row(position=row.position, fields=fields | {"media": media}, blobs=blobs)

    def _file(self, position: str, path: str) -> Path | None:
        """The file that a row names, if it is there and within the source's folder."""
        pure = PurePosixPath(path.replace("\\", "/").removeprefix("file://"))
        root = self._root
        if not path or "\0" in path or "://" in path or pure.is_absolute() or ".." in pure.parts:
            return None
        beside = root / PurePosixPath(position.rpartition(":")[0]).parent
        try:
            for folder in dict.fromkeys((beside, root)):
                found = Path(os.path.realpath(folder / pure))
                if found.is_relative_to(root) and found.is_file():
                    return found
        except ValueError:  # no file system has such a name
            return None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise self._unreadable(path, error) from None
        return None

    def _digest(self, path: str, found: Path) -> tuple[bytes, int]:
        """(what the pins hold of a file, its bytes), in bounded memory."""
        digest, size = blake3(), 0
        try:
            for chunk in fs.read_chunks(found):
                digest.update(chunk)
                size += len(chunk)
        except OSError as error:
            raise self._unreadable(path, error) from None
        return digest.digest(length=16), size

    def _checked(self, position: str, path: str, found: Path, folder: Path) -> bytes:
        try:
            data = found.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from None
        pins = self._read_pins(folder)
        at = int(np.searchsorted(pins["path"], mark := _mark(position, path)))
        wanted = pins["digest"][at : at + 1].tobytes() if pins["path"][at : at + 1].tobytes() == mark else b""
        if blake3(data).digest(length=16) != wanted:
            raise SourceChanged(f"source {self.spec.name}: {path!r} has changed since planned")
        return data

    def _unreadable(self, path: str, error: OSError) -> SourceFailed:
        return SourceFailed(f"source {self.spec.name}: cannot read {path!r}: {error.strerror}; run again")

    def _read_pins(self, folder: Path) -> np.ndarray:
        if self._pins is None:
            try:
                self._pins = np.fromfile(folder / PINS, dtype=PIN)
            except OSError:
                raise SourceFailed(
                    f"source {self.spec.name}: its pins under .build are missing; build with --update to make them"
                ) from None
        return self._pins

    @property
    def _root(self) -> Path:
        root = root_folder(self.spec.path, self.spec.name)
        return root.parent if root.is_file() else root


def _named(row: Row) -> Iterator[Named]:
    """The media of a row in the order in which they are listed, images first."""
    modalities = row.fields.get("modalities")
    for modality, names in LISTS.items():
        entries: Any = modalities.get(modality) if isinstance(modalities, dict) else None
        for name in names:
            entries = row.fields.get(name) if entries is None else entries
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            about = entry if isinstance(entry, dict) else {}
            path = entry if isinstance(entry, str) else next((about[key] for key in PATHS if about.get(key)), "")
            yield Named(modality, path if isinstance(path, str) else "", about)


def _mark(position: str, path: str) -> bytes:
    """A path as a row gives it: what it means depends on where the row's file lies."""
    folder = position.rpartition(":")[0].rpartition("/")[0]
    return xxhash.xxh3_128_digest(f"{folder}\0{path}".encode("utf-8", "surrogatepass"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _absent(path: str) -> str:
    """Why there is no file of that name, for a dead letter."""
    if "://" in path or path.startswith("/"):
        return f"{scrub(path)!r} is no path that is relative to the folder of the rows"
    return f"there is no file {path!r}"
