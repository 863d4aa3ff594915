"""Local folders: one row a file.

Here: what a file becomes as a row: media by suffix, else text.
Elsewhere: the order of files (walk.py), texts beside media (sidecars.py), digests and changes (listing.py), what rows
mean (records.normalize).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shardkit.errors import Refused, SourceChanged
from shardkit.records.row import Cursor, Modality, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.listing import Entry, read_listing
from shardkit.sources.patterns import selector
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.sampling import Scanned
from shardkit.sources.sidecars import SIDECAR_BYTES, Beside, fields_of, with_sidecars
from shardkit.sources.walk import path_fields, shown
from shardkit.spec import FilesSource, Limits

SUFFIXES: dict[str, Modality] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "image"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"), "audio"),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"), "video"),
}
"""What a suffix promises; the media room decides what the bytes are."""


class Files:
    """A `files` source. Partition p of P takes every file whose number in the listing is p modulo P.

    `place` is where its files lie: the local folder of its spec, unless another is given.
    """

    def __init__(self, spec: FilesSource, limits: Limits, place: Place | None = None) -> None:
        self.spec, self.limits = spec, limits
        self._place = place or LocalPlace(spec.path, spec.name)

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the folder with the digest of every file."""
        spec = self.spec
        selected = selector(spec.include, spec.exclude, spec.name)

        def fits(size: int) -> bool:
            return size >= spec.min_bytes and (spec.max_bytes is None or size <= spec.max_bytes)

        revision, count, total = self._place.pin(folder, selected, fits)
        return Pinned(revision=revision, rows=count, bytes=total)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a file (with sidecars: a medium); the cursor is the number of the next file in the listing."""
        start = int(cursor["index"]) if cursor else 0
        for file in self._listed(folder):
            if file.number >= start and file.number % partitions == partition:
                yield Step(row=self._row(file), cursor={"index": file.number + 1})

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every file's path, name and folder; its bytes are not read."""
        for file in self._listed(folder):
            yield Scanned(self._about(shown(file.entry.path)), {"index": file.number})

    def _listed(self, folder: Path) -> Iterator[Beside]:
        """The files that are rows, each with what lies beside it."""
        entries = read_listing(folder, self.spec.name)
        if self.spec.sidecars:
            return with_sidecars(entries, lambda entry: _modality(entry) is not None)
        return (Beside(number, entry, {}) for number, entry in enumerate(entries))

    def _row(self, file: Beside) -> Row | BadRow:
        entry, path = file.entry, shown(file.entry.path)
        try:
            self._check(file, path)
            beside = {suffix: self._read(sidecar) for suffix, sidecar in file.sidecars.items()}
            fields = {**fields_of(beside), **self._about(path)}
            modality = _modality(entry)
            data = self._read(entry)
            if modality is not None:
                return Row(position=path, fields=fields, blobs={modality: data})
            return Row(position=path, fields={**fields, "text": data.decode()})
        except Refused as refused:
            return BadRow(position=path, reason=refused.reason, detail=refused.detail)
        except UnicodeDecodeError:
            return BadRow(position=path, reason="not-utf8", detail="neither text nor a known suffix of media")

    def _check(self, file: Beside, path: str) -> None:
        """Raises Refused for what is not there or too big, before it is read."""
        if not file.entry.digest:
            raise Refused("no-media", "there was no such file when it was planned")
        if self.spec.sidecars == "required" and not file.sidecars:
            raise Refused("missing-field", "no text of the same name lies beside it")
        if _modality(file.entry) is None and file.entry.size > 4 * self.limits.text_characters:
            raise Refused("too-long", f"{file.entry.size} bytes")
        if file.entry.size > self.limits.member_bytes:
            raise Refused("too-big", f"{file.entry.size} bytes")
        if any(sidecar.size > SIDECAR_BYTES for sidecar in file.sidecars.values()):
            raise Refused("too-big", f"a file beside it has more than {SIDECAR_BYTES} bytes")

    def _about(self, path: str) -> dict[str, str]:
        about = path_fields(path)
        return {**about, "category": PurePosixPath(path).parent.name} if self.spec.category_from_folder else about

    def _read(self, entry: Entry) -> bytes:
        with self._place.open(entry) as stream:
            data = stream.read(entry.size)
        if len(data) != entry.size:
            raise SourceChanged(
                f"source {self.spec.name}: {shown(entry.path)} became shorter while it was read; run again"
            )
        return data


def _modality(entry: Entry) -> Modality | None:
    return SUFFIXES.get(PurePosixPath(shown(entry.path)).suffix.lower())
