"""Writing one shard: samples in, a tar and its index out, staged and read back.

Here: the writer, and the entry that describes the result.
Elsewhere: bytes of many samples (spans.py), codecs (streams.py), pages (pages.py), final names (publish.py).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blake3
import msgspec
import numpy as np
import xxhash
import zstandard

from shardkit.errors import Refused
from shardkit.records.key import key_of_record
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
from shardkit.store.pages import BlockEnd, PageBuilder, Samples
from shardkit.store.spans import Spans, Waiting, lay_out, lay_out_apart
from shardkit.store.streams import CODERS, FileOut

PUT_BYTES, PUT_SAMPLES = 4 << 20, 2048
"""So many bytes or samples are laid out together."""

LARGE_BYTES = 4 << 20
"""Samples from here on are not copied together with others."""

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

    Samples wait until there are some MiB of them, and are laid out, hashed and written together. Ends with `seal` or
    `abandon`. Memory: a few such buffers, or one block of samples with `tar.zst` where that is more, and the index.
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
        self._out = FileOut(self._file)
        self._coder = CODERS[codec]()
        self._pages = PageBuilder()
        self._hasher = blake3.blake3()
        self._keys: set[str] = set()
        self._waiting = Waiting()
        self._put_bytes = self._put_members = 0
        self._block_samples = block_samples
        self.tar_bytes = 0
        """Bytes of the tar so far, without the two zero blocks at its end."""
        self.samples = 0

    def add(self, prepared: Prepared) -> bool:
        """Append a sample; False, and nothing written, where its key is in this shard already.

        Raises Refused (`schema`, `too-big`, `not-utf8`, `not-finite`) before anything is written, StorageFailed.
        """
        sample, digest = prepared.sample, self.digest
        record = encode_sample(sample)
        if prepared.members:
            members = [(member.name, member.data, digest(member.data)) for member in prepared.members]
            key = key_of_record(sample, record, [(name, known) for name, _, known in members])
            return self.add_encoded(key, [(tar.JSON, record, digest(record)), *members], facts_of(sample))
        key = key_of_record(sample, record, ())
        return self.add_encoded(key, ((tar.JSON, record, digest(record)),), facts_of(sample))

    def add_encoded(self, key: str, parts: Sequence[Part], facts: Facts) -> bool:
        """The same from encoded parts (name, data, BLAKE3-128), KEY.json (`json`) first."""
        if key in self._keys:
            return False
        size = _check(parts, facts)
        if size >= LARGE_BYTES and self._waiting.keys and not self._coder.by_blocks:
            self._put(last=False)
        waiting = self._waiting
        for name, data, digest in parts:
            waiting.names.append(name)
            waiting.data.append(data)
            waiting.digests.append(digest)
        waiting.keys.append(key)
        waiting.facts.append(facts)
        waiting.counts.append(len(parts))
        waiting.sizes.append(size)
        self._keys.add(key)
        self.tar_bytes += size
        self.samples += 1
        enough = self.tar_bytes - self._put_bytes >= PUT_BYTES or len(waiting.keys) >= PUT_SAMPLES
        if enough and not (self._coder.by_blocks and self.samples % self._block_samples):
            self._put(last=False)
        return True

    def digest(self, data: bytes) -> bytes:
        """BLAKE3-128 of a member's data; a hasher that is kept takes two thirds of the time of a new one."""
        hasher = self._hasher
        hasher.reset()
        hasher.update(data)
        return hasher.digest()[:16]

    def write_late(self) -> None:
        """Leave it to the system when the disk takes the bytes: where they will not be forced there in the end."""
        self._out.early = False

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
        self._out.close()
        self._file.discard()

    def _seal(self, durable: bool) -> StagedShard:
        self._put(last=True)
        end, _ = self._coder.code([tar.END], [len(tar.END)])
        self._out.put(end)
        self._out.finish()
        shard = FileRef(digest=self._out.digest.hexdigest(), bytes=self._file.bytes)
        if durable:
            self._out.force(meanwhile=self._read_back)
        self._out.close()
        self._file.close()
        entry, index = self._describe(shard)
        if durable:
            fs.write_file(self._index_path, index)
        else:
            with fs.NewFile(self._index_path) as file:
                file.write(index)
        return StagedShard(entry=entry, shard=self._file.path, index=self._index_path)

    def _put(self, *, last: bool) -> None:
        """Lay out what waits and write it; `last`: the shard's last block ends here."""
        waiting, self._waiting = self._waiting, Waiting()
        count, start, file_start = len(waiting.keys), self._put_bytes, self._out.position
        done = self.samples - count
        stops = list(range(self._block_samples - done % self._block_samples, count + 1, self._block_samples))
        if last and self.samples % self._block_samples:
            stops.append(count)
        bytes_at = [0, *itertools.accumulate(waiting.sizes)]
        members_at = list(itertools.accumulate(waiting.counts, initial=self._put_members))
        ends: Sequence[int] = [bytes_at[stop] for stop in stops]
        file_ends = ends
        if count:
            spans = lay_out_apart(waiting) if self._is_apart(waiting) else lay_out(waiting)
            pieces, file_ends = self._coder.code(spans.pieces, ends)
            self._out.put(pieces)
            self._pages.take(_rows(waiting, spans, np.array(bytes_at[:-1]) + start))
        places = zip(stops, ends, file_ends, strict=True)
        self._pages.cut(
            [BlockEnd(done + at, members_at[at], start + end, file_start + file) for at, end, file in places]
        )
        self._put_bytes, self._put_members = self.tar_bytes, members_at[-1]

    def _is_apart(self, waiting: Waiting) -> bool:
        return len(waiting.keys) == 1 and waiting.sizes[0] >= LARGE_BYTES and not self._coder.by_blocks

    def _read_back(self) -> None:
        found, size = xxhash.xxh3_128(), 0
        for piece in fs.read_pieces(self._file.path):
            found.update(piece)
            size += len(piece)
        if size != self._file.bytes or found.digest() != self._out.check.digest():
            raise fs.read_back_differs(self._file.path)

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


def _check(parts: Sequence[Part], facts: Facts) -> int:
    """Bytes of a sample's span. Raises Refused where the tar or the index cannot hold it."""
    size = 0
    for name, data, _ in parts:
        length = len(data)
        if length > tar.MAX_MEMBER_BYTES or name not in tar.KNOWN:
            tar.check_member(name, length)
        size += tar.BLOCK + length + -length % tar.BLOCK
    if len(parts) > MAX_MEMBERS:
        raise Refused("too-big", "a sample has at most 65535 members")
    text, images, pixels, audio, frames = facts[:5]
    if text > U32 or images > 0xFFFF or not 0 <= pixels <= U32 << 32 or not 0 <= audio <= U32 or frames > U32:
        raise Refused("too-big", "more images, pixels, characters, sound or frames than the index can count")
    return size


def _rows(waiting: Waiting, spans: Spans, offsets: np.ndarray) -> Samples:
    return Samples(
        keys=waiting.keys,
        offsets=offsets,
        sizes=waiting.sizes,
        hashes=spans.hashes,
        facts=waiting.facts,
        counts=waiting.counts,
        names=waiting.names,
        member_offsets=spans.member_offsets,
        member_sizes=spans.member_sizes,
        digests=waiting.digests,
    )
