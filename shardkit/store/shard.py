"""Writing one shard: samples in, a tar and its index out, staged and read back.

Here: the writer, the two codecs, the entry that describes the result.
Elsewhere: headers (tar.py), the index's bytes (index.py), giving the files their final names (publish.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blake3
import msgspec
import xxhash
import zstandard

from shardkit.errors import Refused
from shardkit.records.key import key_from_digests
from shardkit.records.row import Prepared
from shardkit.records.sample import encode_sample
from shardkit.spec import Codec
from shardkit.store import fs, tar
from shardkit.store.index import (
    Facts,
    IndexHead,
    IndexPage,
    PageRef,
    blake3_128,
    encode_head,
    facts_of,
)
from shardkit.store.layout import FileRef, ShardEntry, Sums

BUFFER_BYTES = 1 << 20
"""Bytes hashed and written at a time: they are still in the processor's cache when they are hashed."""

ZSTD_LEVEL = 3
MAX_MEMBERS = 65_535
Part = tuple[str, bytes]
_sha = blake3.blake3


class StagedShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard and its index under temporary names, forced to the disk and read back; publish.py links them."""

    entry: ShardEntry
    shard: Path
    index: Path


class ShardWriter:
    """Writes one shard of the dataset in `folder`, under temporary names.

    Ends with `seal` or `abandon`. Memory: one buffer, or one block of samples with `tar.zst`, and the index.
    """

    def __init__(self, folder: Path, *, source: str, lane: str, ordinal: int, codec: Codec, block_samples: int) -> None:
        self._about: dict[str, Any] = {
            "source": source, "lane": lane, "ordinal": ordinal, "codec": codec, "block_samples": block_samples,
        }  # fmt: skip
        name = f"{fs.STAGE}{lane}-{ordinal}-{os.getpid()}"
        self._index_path = folder / "indexes" / name
        fs.make_folders(folder / "shards")
        fs.make_folders(folder / "indexes")
        self._file = fs.NewFile(folder / "shards" / name)
        self._stream = STREAMS[codec](self._file)
        self._columns = Columns()
        self._keys: set[str] = set()
        self._pages: list[tuple[PageRef, bytes]] = []
        self._block_samples = block_samples
        self._block_start = (0, 0)
        self.tar_bytes = 0
        """Bytes of the tar so far, without the two zero blocks at its end."""
        self.samples = 0

    def add(self, prepared: Prepared) -> bool:
        """Append a sample; False, and nothing written, where its key is in this shard already.

        Raises Refused (`schema`, `too-big`, `not-utf8`, `not-finite`) before anything is written, StorageFailed.
        """
        sample = prepared.sample
        record = encode_sample(sample)
        parts = [(member.name, member.data) for member in prepared.members]
        digests = [_sha(data).digest(length=16) for _, data in parts]
        key = key_from_digests(sample, [(name, digest) for (name, _), digest in zip(parts, digests, strict=True)])
        parts.insert(0, (tar.JSON, record))
        digests.insert(0, _sha(record).digest(length=16))
        return self.add_encoded(key, parts, digests, facts_of(sample))

    def add_encoded(self, key: str, parts: Sequence[Part], digests: Sequence[bytes], facts: Facts) -> bool:
        """The same from encoded parts, KEY.json (`json`) first, each with its BLAKE3-128."""
        if key in self._keys:
            return False
        if len(parts) > MAX_MEMBERS:
            raise Refused("too-big", "a sample has at most 65535 members")
        pieces, layout, size = _lay_out(key, parts)
        self._columns.check(facts)
        span_hash = self._stream.put(pieces, size)
        self._columns.append(bytes.fromhex(key), (self.tar_bytes, size, span_hash), facts, (layout, digests))
        self._keys.add(key)
        self.tar_bytes += size
        self.samples += 1
        if self.samples % self._block_samples == 0:
            self._end_block()
        return True

    def seal(self, *, durable: bool = True) -> StagedShard:
        """Finish the tar, write the index, force both to the disk and read them back.

        `durable=False` leaves fsync and reading back out: only for benchmarks beside peers that do neither.
        Raises StorageFailed; the temporary files are gone then.
        """
        if not self.samples:
            raise ValueError("a shard without samples cannot be sealed")
        try:
            return self._seal(durable)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Throw everything away."""
        self._file.discard()

    def _seal(self, durable: bool) -> StagedShard:
        if self._columns.rows:
            self._end_block()
        self._stream.put([tar.END], len(tar.END))
        self._stream.end_block()
        self._stream.flush()
        shard = FileRef(digest=self._stream.digest.hexdigest(), bytes=self._file.bytes)
        if durable:
            self._file.sync()
        self._file.close()
        if durable and digest_of_file(self._file.path) != shard:
            raise fs.read_back_differs(self._file.path)
        entry, index = self._describe(shard)
        if durable:
            fs.write_file(self._index_path, index)
        else:
            with fs.NewFile(self._index_path) as file:
                file.write(index)
        return StagedShard(entry=entry, shard=self._file.path, index=self._index_path)

    def _end_block(self) -> None:
        self._stream.end_block()
        page = msgspec.msgpack.encode(self._columns.page())
        tar_start, file_start = self._block_start
        ref = PageRef(
            page_bytes=len(page),
            digest=blake3_128(page),
            samples=len(self._columns.rows),
            tar_offset=tar_start,
            tar_bytes=self.tar_bytes - tar_start,
            file_offset=file_start,
            file_bytes=self._stream.position - file_start,
        )
        self._pages.append((ref, page))
        self._columns.clear()
        self._block_start = (self.tar_bytes, self._stream.position)

    def _describe(self, shard: FileRef) -> tuple[ShardEntry, bytes]:
        tar_bytes = self.tar_bytes + len(tar.END)
        words = self._columns.words
        head = IndexHead(
            shard=shard.digest,
            codec=self._about["codec"],
            samples=self.samples,
            block_samples=self._block_samples,
            tar_bytes=tar_bytes,
            sources=tuple(words["source"]),
            categories=tuple(words["category"]),
            modality_sets=tuple(words["modalities"]),
            licences=tuple(words["licence"]),
            member_names=tuple(self._columns.names),
            pages=tuple(ref for ref, _ in self._pages),
        )
        encoded = encode_head(head)
        index = encoded + b"".join(page for _, page in self._pages)
        entry = ShardEntry(
            shard=shard,
            tar_bytes=tar_bytes,
            index=FileRef(digest=_sha(index).hexdigest(), bytes=len(index)),
            head_bytes=len(encoded),
            head_digest=blake3_128(encoded).hex(),
            samples=self.samples,
            licences=tuple(sorted(word for word in words["licence"] if word)),
            modalities=dict(sorted(self._columns.modalities.items())),
            sums=self._columns.sums(),
            **self._about,
        )
        return entry, index


def toolchain() -> dict[str, str]:
    """What the bytes of `tar.zst` shards and of dead letters depend on besides their content."""
    return {"zstd": ".".join(str(part) for part in zstandard.ZSTD_VERSION)}


def digest_of_file(path: Path) -> FileRef:
    """Digest and length of a local file. Raises StorageFailed, FileNotFoundError."""
    digest, size = _sha(), 0
    for chunk in fs.read_chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return FileRef(digest=digest.hexdigest(), bytes=size)


Layout = list[tuple[str, int, int]]
"""(name, offset of the data in the span, bytes) of each member."""


def _lay_out(key: str, parts: Sequence[Part]) -> tuple[list[bytes], Layout, int]:
    encoded = key.encode("ascii")
    key_sum = sum(encoded)
    pieces: list[bytes] = []
    layout: Layout = []
    at = 0
    for name, data in parts:
        size = len(data)
        pieces.append(tar.header_from(encoded, key_sum, tar.suffix(name), size))
        pieces.append(data)
        pieces.append(tar.padding(size))
        layout.append((name, at + tar.BLOCK, size))
        at += tar.stored_bytes(size)
    return pieces, layout, at


class PlainStream:
    """A plain tar on its way to the disk: one buffer, hashed and written when it is full."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._used = 0
        self.digest = blake3.blake3()

    @property
    def position(self) -> int:
        """Bytes of the file so far, those in the buffer included."""
        return self._file.bytes + self._used

    def put(self, pieces: Sequence[bytes], size: int) -> int:
        """Append `size` bytes; their XXH3-64."""
        if size > BUFFER_BYTES:
            return self._put_large(pieces)
        if self._used + size > BUFFER_BYTES:
            self.flush()
        view, start = self._view, self._used
        at = start
        for piece in pieces:
            end = at + len(piece)
            view[at:end] = piece
            at = end
        self._used = at
        return xxhash.xxh3_64_intdigest(view[start:at])

    def end_block(self) -> None:
        """Blocks leave no trace in a plain tar."""

    def flush(self) -> None:
        """Write what the buffer holds."""
        self._write(self._view[: self._used])
        self._used = 0

    def _put_large(self, pieces: Sequence[bytes]) -> int:
        span = xxhash.xxh3_64()
        self.flush()
        for piece in pieces:
            span.update(piece)
            self._write(piece)
        return span.intdigest()

    def _write(self, data: fs.Buffer) -> None:
        self.digest.update(data)
        self._file.write(data)


class ZstdStream:
    """A tar as zstd frames, one a block: level 3, with checksum and content size, single-threaded."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._pieces: list[bytes] = []
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)
        self.digest = blake3.blake3()

    @property
    def position(self) -> int:
        """Bytes of the file so far: all frames that have ended."""
        return self._file.bytes

    def put(self, pieces: Sequence[bytes], size: int) -> int:
        """Append `size` bytes to the open block; their XXH3-64."""
        span = b"".join(pieces)
        assert len(span) == size
        self._pieces.append(span)
        return xxhash.xxh3_64_intdigest(span)

    def end_block(self) -> None:
        """Write the open block as one frame."""
        frame = self._compressor.compress(b"".join(self._pieces))
        self._pieces.clear()
        self.digest.update(frame)
        self._file.write(frame)

    def flush(self) -> None:
        """Frames are written as they end."""


STREAMS: dict[Codec, type[PlainStream] | type[ZstdStream]] = {"tar": PlainStream, "tar.zst": ZstdStream}


class Columns:
    """Rows of the open block and what all blocks share: dictionaries, sums."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.words: dict[str, dict[str, int]] = {name: {} for name in ("source", "category", "modalities", "licence")}
        self.names: dict[str, int] = {}
        self.modalities: dict[str, int] = {}
        self._members: list[tuple[int, int, int, bytes]] = []
        self._sums = [0, 0, 0, 0, 0]

    def check(self, facts: Facts) -> None:
        """Refuse what the columns cannot hold."""
        if facts.images > 0xFFFF or max(facts.text_characters, facts.audio_ms, facts.frames) > 0xFFFFFFFF:
            raise Refused("too-big", "more images, characters, sound or frames than the index can count")

    def append(
        self, key: bytes, span: tuple[int, int, int], facts: Facts, members: tuple[Layout, Sequence[bytes]]
    ) -> None:
        """One sample: its key, (offset, bytes, hash) of its span, its facts, its members with digests."""
        words, names = self.words, self.names
        ids = (
            words["source"].setdefault(facts.source, len(words["source"])),
            words["category"].setdefault(facts.category, len(words["category"])),
            words["modalities"].setdefault(facts.modalities, len(words["modalities"])),
            words["licence"].setdefault(facts.licence, len(words["licence"])),
        )
        layout, digests = members
        self.rows.append((key, *span, *facts[:5], *ids, len(layout)))
        for (name, offset, size), digest in zip(layout, digests, strict=True):
            self._members.append((names.setdefault(name, len(names)), offset, size, digest))
        self.modalities[facts.modalities] = self.modalities.get(facts.modalities, 0) + 1

    def page(self) -> IndexPage:
        """The open block's page; its sums are added to the shard's."""
        columns = tuple(zip(*self.rows, strict=True))
        for at in range(5):
            self._sums[at] += sum(columns[4 + at])
        names, offsets, sizes, digests = zip(*self._members, strict=True)
        return IndexPage(
            keys=b"".join(columns[0]),
            **{name: _pack(form, columns[1 + at]) for at, (name, form) in enumerate(_SAMPLE_COLUMNS)},
            member_names=_pack("H", names),
            member_offsets=_pack("Q", offsets),
            member_sizes=_pack("Q", sizes),
            member_digests=b"".join(digests),
        )

    def clear(self) -> None:
        """Begin the next block."""
        self.rows.clear()
        self._members.clear()

    def sums(self) -> Sums:
        """Sums over the whole shard."""
        return Sums(**dict(zip(Sums.__struct_fields__, self._sums, strict=True)))


_SAMPLE_COLUMNS = (
    ("offsets", "Q"), ("sizes", "Q"), ("hashes", "Q"), ("text_characters", "I"), ("images", "H"), ("pixels", "Q"),
    ("audio_ms", "I"), ("frames", "I"), ("sources", "H"), ("categories", "H"), ("modality_sets", "H"),
    ("licences", "H"), ("member_counts", "H"),
)  # fmt: skip


def _pack(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)
