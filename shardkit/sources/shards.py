"""Shards that exist, as a source: samples of a dataset of ours, or of tars that anybody made.

Here: which of the two a spec means, samples of a dataset.
Elsewhere: tars (tar_files.py), passing samples on as they are (records.normalize.passed).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from shardkit.errors import (
    FileMissing,
    NotADataset,
    ShardDamaged,
    SourceDamaged,
    SourceFailed,
    SourceUnavailable,
    SpecError,
    StorageFailed,
)
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Source, Step
from shardkit.sources.http import named_openers
from shardkit.sources.listing import read_pin, write_private
from shardkit.sources.places import LocalPlace
from shardkit.sources.tar_files import TarFiles
from shardkit.sources.web_place import WebPlace, reason_of
from shardkit.spec import Limits, ShardsSource
from shardkit.store.index import IndexReader, Rows, blake3_128
from shardkit.store.layout import Manifest, ShardEntry, shard_path
from shardkit.store.manifest import decompress_block, read_columns, read_manifest
from shardkit.store.urls import ByteStore, open_store

PIN = "pin.json"


class Pin(msgspec.Struct, frozen=True):
    """The version that was pinned."""

    version: str


def open_shards(spec: ShardsSource, limits: Limits) -> Source:
    """The source that a `shards` spec means."""
    if spec.dataset:
        return OwnShards(spec, limits)
    if spec.urls:
        files = named_openers(spec.name, spec.urls)
        return TarFiles(spec, WebPlace(spec.name, files), ("**",), limits)
    return TarFiles(spec, LocalPlace(spec.path, spec.name), spec.include, limits)


class OwnShards:
    """Live samples of one version of a dataset. Partition p of P takes every shard whose number is p modulo P.

    Every sample is checked against the index: its span, and over a network each member.
    """

    def __init__(self, spec: ShardsSource, limits: Limits) -> None:
        self.spec, self.limits = spec, limits

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """The revision is the version's digest. Raises SpecError (no dataset, no such version), SourceUnavailable."""
        name = self.spec.name
        try:
            version, manifest = read_manifest(self._store, self.spec.version or None)
        except (NotADataset, SpecError) as error:
            raise SpecError(f"source {name}: {error}") from None
        except (StorageFailed, FileMissing) as error:
            raise SourceUnavailable(f"source {name}: {error}", reason_of(error)) from None
        except ShardDamaged as error:
            raise SourceDamaged(f"source {name}: {error}") from None
        if any(entry.url for entry in manifest.shards):
            raise SpecError(
                f"source {name}: {self._store.url} is an index of tars; name the tars under `path` or `urls`"
            )
        write_private(folder / PIN, [msgspec.json.encode(Pin(version))])
        return Pinned(revision=version, rows=manifest.totals.samples, bytes=manifest.totals.bytes)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a live sample, in stored order. The cursor: shard, and the ordinal of the next sample in it."""
        first, start = (int(cursor["shard"]), int(cursor["ordinal"])) if cursor else (0, 0)
        with self._named():
            manifest = self._manifest(folder)
            omitted = read_columns(self._store, manifest)
            for number in range(first + (partition - first) % partitions, len(manifest.shards), partitions):
                left_out = frozenset(omitted.get(number, ()))
                begin = start if number == first else 0
                for ordinal, row in self._shard_rows(manifest.shards[number], begin):
                    if ordinal not in left_out:
                        yield Step(row=row, cursor={"shard": number, "ordinal": ordinal + 1})

    def _shard_rows(self, entry: ShardEntry, begin: int) -> Iterator[tuple[int, Row | BadRow]]:
        """(ordinal, row) of a shard's samples from `begin` on."""
        index = IndexReader(self._store, entry)
        head, path = index.head, shard_path(entry)
        for block in range(begin // head.block_samples, len(head.pages)):
            ref, rows = head.pages[block], Rows(index.page(block), head.member_names)
            frame = self._store.read_range(path, ref.file_offset, ref.file_bytes) if entry.codec != "tar" else None
            content = decompress_block(frame, ref.tar_bytes, path) if frame is not None else None
            for at in range(max(0, begin - block * head.block_samples), rows.samples):
                offset, size = rows.offsets[at], rows.sizes[at]
                if size > 2 * self.limits.member_bytes:
                    detail = f"a sample of {size} bytes"
                    yield (
                        block * head.block_samples + at,
                        BadRow(position=rows.key(at), reason="too-big", detail=detail),
                    )
                    continue
                within = offset - ref.tar_offset
                span = content[within : within + size] if content else self._store.read_range(path, offset, size)
                yield block * head.block_samples + at, self._row(span, rows, at, path)

    def _row(self, span: bytes, rows: Rows, at: int, path: str) -> Row:
        key = rows.key(at)
        if len(span) != rows.sizes[at] or xxhash.xxh3_64_intdigest(span) != rows.hashes[at]:
            raise ShardDamaged(f"{path}: sample {key} does not have its digest; run `shardkit repair` on that dataset")
        blobs = {}
        for member in rows.members(at):
            data = span[member.offset : member.offset + member.size]
            if self._store.is_remote and blake3_128(data) != member.digest:
                raise ShardDamaged(f"{path}: {member.name} of sample {key} does not have its digest; fetch it again")
            blobs[member.name] = data
        fields: dict[str, Any] = msgspec.json.decode(blobs["json"])
        return Row(position=key, fields={"__key__": key, **fields}, blobs=blobs)

    @cached_property
    def _store(self) -> ByteStore:
        try:
            return open_store(self.spec.dataset)
        except (NotADataset, SpecError) as error:
            raise SpecError(f"source {self.spec.name}: {error}") from None

    def _manifest(self, folder: Path) -> Manifest:
        pin = read_pin(folder / PIN, Pin, self.spec.name)
        return read_manifest(self._store, pin.version)[1]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the store as those of a source."""
        try:
            yield
        except ShardDamaged as error:
            raise SourceDamaged(f"source {self.spec.name}: {error}") from None
        except (StorageFailed, NotADataset) as error:
            raise SourceFailed(f"source {self.spec.name}: {error}") from None
