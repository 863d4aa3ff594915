"""Local folders: one row a file.

Here: what a file becomes as a row: media by suffix, else text.
Elsewhere: the order of files (walk.py), digests and change detection (listing.py), what rows mean (records.normalize).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shardkit.errors import SourceChanged
from shardkit.records.row import Cursor, Modality, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.listing import Entry, read_listing
from shardkit.sources.patterns import selector
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.sampling import Scanned
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
        """One row a file; the cursor is the number of the next file in the listing."""
        start = int(cursor["index"]) if cursor else 0
        for index, entry in enumerate(read_listing(folder, self.spec.name)):
            if index >= start and index % partitions == partition:
                yield Step(row=self._row(entry), cursor={"index": index + 1})

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every file's path, name and folder; its bytes are not read."""
        for index, entry in enumerate(read_listing(folder, self.spec.name)):
            path = shown(entry.path)
            yield Scanned(path_fields(path), {"index": index})

    def _row(self, entry: Entry) -> Row | BadRow:
        path = shown(entry.path)
        if not entry.digest:
            return BadRow(position=path, reason="no-media", detail="there was no such file when it was planned")
        modality = SUFFIXES.get(PurePosixPath(path).suffix.lower())
        if modality is None and entry.size > 4 * self.limits.text_characters:
            return BadRow(position=path, reason="too-long", detail=f"{entry.size} bytes")
        if entry.size > self.limits.member_bytes:
            return BadRow(position=path, reason="too-big", detail=f"{entry.size} bytes")
        with self._place.open(entry) as stream:
            data = stream.read(entry.size)
        if len(data) != entry.size:
            raise SourceChanged(f"source {self.spec.name}: {path} became shorter while it was read; run again")
        fields = path_fields(path)
        if modality is not None:
            return Row(position=path, fields=fields, blobs={modality: data})
        try:
            return Row(position=path, fields={**fields, "text": data.decode()})
        except UnicodeDecodeError:
            return BadRow(position=path, reason="not-utf8", detail="neither text nor a known suffix of media")
