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

SMALL_BYTES = 1 << 14
"""Spans under this are joined before they are hashed: one copy is cheaper than three calls."""

ZSTD_LEVEL = 3
MAX_MEMBERS = 0xFFFF
U32 = 0xFFFFFFFF
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
        if facts[1] > 0xFFFF or facts[0] > U32 or facts[3] > U32 or facts[4] > U32:
            raise Refused("too-big", "more images, characters, sound or frames than the index can count")
        span_hash = self._stream.put(pieces, size)
        self._columns.rows.append((key, self.tar_bytes, size, span_hash, facts, layout, digests))
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
        samples = len(self._columns.rows)
        page = msgspec.msgpack.encode(self._columns.page())
        tar_start, file_start = self._block_start
        ref = PageRef(
            page_bytes=len(page),
            digest=blake3_128(page),
            samples=samples,
            tar_offset=tar_start,
            tar_bytes=self.tar_bytes - tar_start,
            file_offset=file_start,
            file_bytes=self._stream.position - file_start,
        )
        self._pages.append((ref, page))
        self._block_start = (self.tar_bytes, self._stream.position)

    def _describe(self, shard: FileRef) -> tuple[ShardEntry, bytes]:
        tar_bytes = self.tar_bytes + len(tar.END)
        sources, categories, modality_sets, licences = (tuple(words) for words in self._columns.words)
        head = IndexHead(
            shard=shard.digest,
            codec=self._about["codec"],
            samples=self.samples,
            block_samples=self._block_samples,
            tar_bytes=tar_bytes,
            sources=sources,
            categories=categories,
            modality_sets=modality_sets,
            licences=licences,
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
            licences=tuple(sorted(word for word in licences if word)),
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

Row = tuple[str, int, int, int, Facts, Layout, Sequence[bytes]]
"""A sample of the open block: key, offset, bytes and hash of its span, facts, members, their digests."""


def _lay_out(key: str, parts: Sequence[Part]) -> tuple[list[bytes], Layout, int]:
    encoded = key.encode("ascii")
    key_sum = sum(encoded)
    if len(parts) == 1:
        name, data = parts[0]
        size = len(data)
        head = tar.header_from(encoded, key_sum, tar.suffix(name), size)
        return [head, data, tar.padding(size)], [(name, tar.BLOCK, size)], tar.stored_bytes(size)
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
    """A plain tar on its way to the disk: pieces are hashed and written together, about a MiB at a time."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._pending: list[bytes] = []
        self._used = 0
        self.digest = blake3.blake3()

    @property
    def position(self) -> int:
        """Bytes of the file so far, those still pending included."""
        return self._file.bytes + self._used

    def put(self, pieces: Sequence[bytes], size: int) -> int:
        """Append `size` bytes; their XXH3-64."""
        if size < SMALL_BYTES:
            span = b"".join(pieces)
            self._pending.append(span)
            found = xxhash.xxh3_64_intdigest(span)
        else:
            self._pending.extend(pieces)
            found = _hash_pieces(pieces)
        self._used += size
        if self._used >= BUFFER_BYTES:
            self.flush()
        return found

    def end_block(self) -> None:
        """Blocks leave no trace in a plain tar."""

    def flush(self) -> None:
        """Write what is pending; very large pieces one by one, so that they are not copied."""
        pending = [b"".join(self._pending)] if self._used < 4 * BUFFER_BYTES else self._pending
        self._pending = []
        self._used = 0
        for piece in pending:
            self.digest.update(piece)
            self._file.write(piece)


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
        self._pieces.extend(pieces)
        return xxhash.xxh3_64_intdigest(b"".join(pieces)) if size < SMALL_BYTES else _hash_pieces(pieces)

    def end_block(self) -> None:
        """Write the open block as one frame."""
        frame = self._compressor.compress(b"".join(self._pieces))
        self._pieces.clear()
        self.digest.update(frame)
        self._file.write(frame)

    def flush(self) -> None:
        """Frames are written as they end."""


def _hash_pieces(pieces: Sequence[bytes]) -> int:
    span = xxhash.xxh3_64()
    for piece in pieces:
        span.update(piece)
    return span.intdigest()


STREAMS: dict[Codec, type[PlainStream] | type[ZstdStream]] = {"tar": PlainStream, "tar.zst": ZstdStream}


class Columns:
    """Rows of the open block and what all blocks share: dictionaries, sums."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.words: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        """Dictionaries of sources, categories, sets of modalities, licences: word to position."""
        self.names: dict[str, int] = {}
        self.modalities: dict[str, int] = {}
        self._sums = [0, 0, 0, 0, 0]

    def page(self) -> IndexPage:
        """The open block's page, as specs/FORMAT.md orders it; the next block begins."""
        keys, offsets, sizes, hashes, facts, layouts, digests = zip(*self.rows, strict=True)
        self.rows.clear()
        about = tuple(zip(*facts, strict=True))
        spans = (offsets, sizes, hashes)
        columns = (*spans, *about[:5], *self._positions(about[5:]), tuple(len(layout) for layout in layouts))
        for at in range(5):
            self._sums[at] += sum(about[at])
        members = [member for layout in layouts for member in layout]
        names = self.names
        return IndexPage(
            keys=bytes.fromhex("".join(keys)),
            **{name: _pack(form, columns[at]) for at, (name, form) in enumerate(_SAMPLE_COLUMNS)},
            member_names=_pack("H", [names.setdefault(name, len(names)) for name, _, _ in members]),
            member_offsets=_pack("Q", [offset for _, offset, _ in members]),
            member_sizes=_pack("Q", [size for _, _, size in members]),
            member_digests=b"".join([digest for group in digests for digest in group]),
        )

    def sums(self) -> Sums:
        """Sums over the whole shard."""
        return Sums(**dict(zip(Sums.__struct_fields__, self._sums, strict=True)))

    def _positions(self, columns: Sequence[Sequence[str]]) -> list[list[int]]:
        for word in columns[2]:
            self.modalities[word] = self.modalities.get(word, 0) + 1
        return [
            [known.setdefault(word, len(known)) for word in column]
            for known, column in zip(self.words, columns, strict=True)
        ]


_SAMPLE_COLUMNS = (
    ("offsets", "Q"), ("sizes", "Q"), ("hashes", "Q"), ("text_characters", "I"), ("images", "H"), ("pixels", "Q"),
    ("audio_ms", "I"), ("frames", "I"), ("sources", "H"), ("categories", "H"), ("modality_sets", "H"),
    ("licences", "H"), ("member_counts", "H"),
)  # fmt: skip


def _pack(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)
