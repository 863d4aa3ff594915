"""One file of a Kaggle dataset as a source.

Here: pinning version and file, the zip around it.
Elsewhere: Kaggle's API (store.kaggle), ranges and changes (web_place.py), what is in the file (formats.py), taking the
fallback where it cannot be had (build.plan).
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import cast

import msgspec

from shardkit.errors import ShardDamaged, SourceDamaged, SourceUnavailable, StorageFailed
from shardkit.records.row import Cursor
from shardkit.sources.base import Pinned, Source, Step
from shardkit.sources.formats import open_format
from shardkit.sources.listing import CHUNK_BYTES, Entry, read_pin, write_private
from shardkit.sources.web_place import Opener, WebPlace, reason_of
from shardkit.spec import KaggleSource, Limits
from shardkit.store.kaggle import KaggleStore, find_login
from shardkit.store.patience import Patience

PIN = "pin.json"
PLANNING = Patience(deadline_seconds=45.0, attempts=5)
"""A plan has something else to fall back to: it asks for a shorter while than a build."""
SHOWN = 20
ZIP = b"PK\x03\x04"
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What zips hold in practice; of the others the library unfolds more at once than was asked for."""


class Pin(msgspec.Struct, frozen=True):
    """What was pinned: the version's number, and whether the file lies in a zip."""

    version: int
    zipped: bool


class Kaggle:
    """A `kaggle` source."""

    def __init__(self, spec: KaggleSource, limits: Limits) -> None:
        self.spec, self.limits = spec, limits
        self._name = spec.file.removesuffix(".zip")

    def missing_tool(self) -> str:
        """Empty: nothing is needed; without credentials Kaggle decides what may be read."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """Pin the version, and the file by its length and tag. Raises SourceUnavailable, SpecError."""
        try:
            version = self._pin_version()
        except (StorageFailed, ShardDamaged) as error:
            raise SourceUnavailable(f"source {self.spec.name}: {error}", reason_of(error)) from None
        place = self._place(version, PLANNING)
        zipped = place.is_zipped()
        write_private(folder / PIN, [msgspec.json.encode(Pin(version, zipped))])
        pinned = self._inner(place).pin(folder)
        reread = "the decompressed start of the zip's file" if zipped else pinned.reread
        return msgspec.structs.replace(pinned, revision=f"v{version}-{pinned.revision}", reread=reread)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows as the format has them."""
        place = self._place(self._read_pin(folder).version, Patience())
        return self._inner(place).rows(folder, partition, partitions, cursor)

    def _inner(self, place: WebPlace) -> Source:
        return open_format(self.spec, (self._name,), place, self.limits)

    def _place(self, version: int, patience: Patience) -> KagglePlace:
        store = KaggleStore(self.spec.dataset, version, find_login(), patience)
        return KagglePlace(self.spec.name, {self._name: Opener((store, self.spec.file))})

    def _pin_version(self) -> int:
        """The version's number, once it is known to have the file. Raises as KaggleStore, SourceUnavailable."""
        spec = self.spec
        login = find_login()
        version = spec.version or KaggleStore(spec.dataset, 0, login, PLANNING).current_version()
        names = []
        for file in KaggleStore(spec.dataset, version, login, PLANNING).files():
            if file.name == spec.file:
                return version
            names.append(file.name)
        raise SourceUnavailable(
            f"source {spec.name}: version {version} of kaggle {spec.dataset} has no file {spec.file!r}; it has: "
            f"{', '.join(islice(names, SHOWN)) or 'none'}",
            "no such file",
        )

    def _read_pin(self, folder: Path) -> Pin:
        return read_pin(folder / PIN, Pin, self.spec.name)


class KagglePlace(WebPlace):
    """One file at Kaggle, out of the zip around it where there is one; nothing is stored."""

    def is_zipped(self) -> bool:
        """Whether the file begins as a zip does. Raises SourceUnavailable, SourceFailed."""
        name, file = next(iter(self._files.items()))
        return super().open(self._entry(name, file, [])).read(len(ZIP)) == ZIP

    def open(self, entry: Entry) -> io.BufferedReader:
        """See Place."""
        try:
            return unzipped(super().open(entry), PurePosixPath(entry.path.decode()).name)
        except NoZip as error:
            raise SourceDamaged(f"source {self._name}: {entry.path.decode()} {error}; give another file") from None


class NoZip(Exception):
    """What begins as a zip and is none, or holds no one file that can be meant; its words say which."""


def unzipped(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """A stream itself, or, where it begins as a zip, that of the file in it that has this name, or is the only one.

    Raises NoZip; reading a damaged one raises what `compressed.damage_named` names.
    """
    if stream.peek(len(ZIP))[: len(ZIP)] != ZIP:
        return stream
    try:
        archive = zipfile.ZipFile(stream)
        member = _member(archive, name)
        if member.compress_type not in PACKINGS:
            raise NoZip(f"is a zip that is packed by method {member.compress_type}, which is not read here")
        inside = archive.open(member)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error):
        raise NoZip("is no zip that can be read") from None
    return io.BufferedReader(cast(io.RawIOBase, inside), CHUNK_BYTES >> 2)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    same = [info for info in files if PurePosixPath(info.filename).name == name]
    if len(same) != 1 and len(files) != 1:
        raise NoZip(f"is a zip of {len(files)} files, of which none alone has its name")
    return (same or files)[0]
