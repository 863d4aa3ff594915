"""Writing one shard: samples in, a tar and its index out, staged and read back.

Here: the writer, and the entry that describes the result.
Elsewhere: headers (tar.py), codecs (streams.py), pages (pages.py), final names (publish.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blake3
import msgspec
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
    blake3_128,
    encode_head,
    facts_of,
)
from shardkit.store.layout import FileRef, ShardEntry
from shardkit.store.pages import Layout, PageBuilder
from shardkit.store.streams import STREAMS

MAX_MEMBERS = 0xFFFF
U32 = 0xFFFFFFFF
Part = tuple[str, bytes, bytes]
"""A member: its name, its data, their BLAKE3-128."""

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
        self._pages = PageBuilder()
        self._keys: set[str] = set()
        self._block_samples = block_samples
        self.tar_bytes = 0
        """Bytes of the tar so far, without the two zero blocks at its end."""
        self.samples = 0

    def add(self, prepared: Prepared) -> bool:
        """Append a sample; False, and nothing written, where its key is in this shard already.

        Raises Refused (`schema`, `too-big`, `not-utf8`, `not-finite`) before anything is written, StorageFailed.
        """
        sample = prepared.sample
        record = encode_sample(sample)
        members = [(member.name, member.data, _sha(member.data).digest(length=16)) for member in prepared.members]
        key = key_from_digests(sample, [(name, digest) for name, _, digest in members])
        parts = [(tar.JSON, record, _sha(record).digest(length=16)), *members]
        return self.add_encoded(key, parts, facts_of(sample))

    def add_encoded(self, key: str, parts: Sequence[Part], facts: Facts) -> bool:
        """The same from encoded parts (name, data, BLAKE3-128), KEY.json (`json`) first."""
        if key in self._keys:
            return False
        if len(parts) > MAX_MEMBERS:
            raise Refused("too-big", "a sample has at most 65535 members")
        pieces, layout, size = _lay_out(key.encode("ascii"), parts)
        if (
            facts[1] > 0xFFFF
            or facts[0] > U32
            or not 0 <= facts[3] <= U32
            or facts[4] > U32
            or not 0 <= facts[2] <= U32 << 32
        ):
            raise Refused("too-big", "more images, pixels, characters, sound or frames than the index can count")
        span_hash = self._stream.put(pieces, size)
        self._pages.rows.append((key, self.tar_bytes, size, span_hash, facts, layout, [part[2] for part in parts]))
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
        if self.samples % self._block_samples:
            self._end_block()
        self._pages.pack()
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
        self._pages.end_block(self.tar_bytes, self._stream.position)

    def _describe(self, shard: FileRef) -> tuple[ShardEntry, bytes]:
        pages = self._pages
        tar_bytes = self.tar_bytes + len(tar.END)
        sources, categories, modality_sets, licences = (tuple(words) for words in pages.words)
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
            member_names=tuple(pages.names),
            pages=tuple(pages.refs),
        )
        encoded = encode_head(head)
        index = encoded + b"".join(pages.pages)
        entry = ShardEntry(
            shard=shard,
            tar_bytes=tar_bytes,
            index=FileRef(digest=_sha(index).hexdigest(), bytes=len(index)),
            head_bytes=len(encoded),
            head_digest=blake3_128(encoded).hex(),
            samples=self.samples,
            licences=tuple(sorted(word for word in licences if word)),
            modalities=dict(sorted(pages.modalities.items())),
            sums=pages.sums(),
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


def _lay_out(key: bytes, parts: Sequence[Part]) -> tuple[list[bytes], Layout, int]:
    key_sum = sum(key)
    pieces: list[bytes] = []
    layout: Layout = []
    at = 0
    for name, data, _ in parts:
        size = len(data)
        padding = -size % tar.BLOCK
        pieces += (tar.header_from(key, key_sum, tar.suffix(name), size), data, tar.PADDING[padding])
        layout.append((name, at + tar.BLOCK, size))
        at += tar.BLOCK + size + padding
    return pieces, layout, at
