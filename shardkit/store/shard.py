"""Writing one shard: samples in, a tar and its index out, staged and read back.

Here: the writer, and the entry that describes the result.
Elsewhere: bytes of many samples (spans.py), codecs (streams.py), pages (pages.py), final names (publish.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from operator import length_hint
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
from shardkit.store.pages import BlockEnd, PageBuilder, pack_numbers
from shardkit.store.spans import Encoded, EncodedColumns, Part, Waiting, lay_out, lay_out_apart
from shardkit.store.streams import CODERS, FileOut
from shardkit.store.tar import BLOCK, KNOWN, MAX_MEMBER_BYTES

PUT_BYTES = 2 << 20
"""So many bytes are laid out together; more fall out of the processor's caches before they are hashed."""

LARGE_BYTES = 4 << 20
"""Samples from here on are not copied together with others."""

MAX_MEMBERS = 0xFFFF
UNCOUNTABLE = "more images, pixels, sound or text than the index can count"
ENDLESS = 1 << 62
TOGETHER = 512
"""Samples given as columns are taken so many at a time, or fewer where they are large."""

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
        hasher = blake3.blake3()
        self._reset, self._update, self._digest = hasher.reset, hasher.update, hasher.digest
        self._keys: set[str] = set()
        self._waiting = Waiting()
        self._put_bytes = self._put_members = 0
        self._put_at = PUT_BYTES
        self._block_samples = block_samples
        self.tar_bytes = 0
        """Bytes of the tar so far, without the two zero blocks at its end."""
        self.samples = 0

    def add(self, prepared: Prepared) -> bool:
        """Append a sample; False, and nothing written, where its key is in this shard already.

        Raises Refused (`schema`, `too-big`, `not-utf8`, `not-finite`) before anything is written, StorageFailed.
        """
        return self.fill(self.encode((prepared,))) == 1

    def add_encoded(self, key: str, parts: Sequence[Part], facts: Facts) -> bool:
        """The same from encoded parts (name, data, BLAKE3-128), KEY.json (`json`) first."""
        return self.fill(((key, parts, facts),)) == 1

    def fill(self, samples: Iterable[Encoded], *, max_bytes: int = ENDLESS, max_samples: int = ENDLESS) -> int:
        """Append samples until the shard is full or there are no more; how many, without duplicates.

        It is full with `max_bytes` of tar or `max_samples`; an iterator then stands at the next sample. Raises as `add`
        does; the samples before the one that is refused are in the shard then.
        """
        keys, waiting, total = self._keys, self._waiting, self.tar_bytes
        before = count = self.samples
        known: Facts | None = None
        try:
            for key, parts, facts in samples:
                if key in keys:
                    continue
                size = 0
                for name, data, _ in parts:
                    length = len(data)
                    if name not in KNOWN or length > MAX_MEMBER_BYTES:
                        tar.check_member(name, length)
                    size += (length + 2 * BLOCK - 1) & -BLOCK
                if facts is not known:  # samples that are told apart by nothing share theirs
                    known, numbers, words = facts, pack_numbers(*facts[:5]), facts[5:]
                if size >= LARGE_BYTES:
                    self._make_way(count, total, len(parts))
                waiting.add(key, parts, size, numbers, words)
                keys.add(key)
                count += 1
                total += size
                if total >= self._put_at:
                    self._put_if_allowed(count, total)
                if total >= max_bytes or count >= max_samples:
                    break
        except struct.error:
            raise Refused("too-big", UNCOUNTABLE) from None
        finally:
            self.samples, self.tar_bytes = count, total
        return count - before

    def fill_columns(
        self, columns: EncodedColumns, *, begin: int = 0, max_bytes: int = ENDLESS, max_samples: int = ENDLESS
    ) -> int:
        """The same of the rows from `begin` on, into the same shard; the row behind the last one that was taken.

        Duplicates count as taken.
        """
        end, member = len(columns.keys), sum(columns.counts[:begin])
        while begin < end:
            stop = min(begin + TOGETHER, end, begin + max(1, max_samples - self.samples))
            part = columns.part(begin, stop, member)
            taken = self._take_together(part, max_bytes - self.tar_bytes)
            if not taken:
                rows = iter(list(part.rows()))
                self.fill(rows, max_bytes=max_bytes, max_samples=max_samples)
                taken = len(part.keys) - length_hint(rows)
            begin, member = begin + taken, member + sum(part.counts[:taken])
            if self.tar_bytes >= max_bytes or self.samples >= max_samples:
                break
        return begin

    def encode(self, samples: Iterable[Prepared]) -> Iterator[Encoded]:
        """Samples as `fill` takes them: keys, canonical JSON, digests and what the index says. Raises Refused."""
        digest = self.digest
        for prepared in samples:
            sample = prepared.sample
            record = encode_sample(sample)
            parts = [(tar.JSON, record, digest(record))]
            if prepared.members:
                parts += [(member.name, member.data, digest(member.data)) for member in prepared.members]
            key = key_of_record(sample, record, [(name, known) for name, _, known in parts[1:]])
            yield key, parts, facts_of(sample)

    def encode_columns(self, samples: Iterable[Prepared]) -> tuple[EncodedColumns, Refused | None]:
        """The same as columns, up to the first sample that is refused, and why: `fill_columns` takes all of these."""
        columns = EncodedColumns([], [], [], [], [], [])
        try:
            for key, parts, facts in self.encode(samples):
                if len(parts) > 1 or facts.text_characters >> 32:
                    _check_parts(parts, facts)
                columns.add(key, parts, facts)
        except Refused as refused:
            return columns, refused
        return columns, None

    def digest(self, data: bytes) -> bytes:
        """BLAKE3-128 of a member's data; a hasher that is kept takes two thirds of the time of a new one."""
        self._reset()
        self._update(data)
        return self._digest()[:16]

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
        self._put(self.samples, self.tar_bytes, last=True)
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

    def _take_together(self, part: EncodedColumns, room: int) -> int:
        """Append the first rows of `part`, so many as leave `room` in the shard; 0 where one needs a closer look."""
        sizes = tar.stored_bytes(np.fromiter(map(len, part.data), dtype=np.int64, count=len(part.data)))
        if len(sizes) != len(part.keys):
            counts = np.array(part.counts, dtype=np.int64)
            sizes = np.add.reduceat(sizes, np.cumsum(counts) - counts)
        ends = sizes.cumsum()
        taken = int(np.searchsorted(ends, min(room, PUT_BYTES)))
        if taken < len(part.keys):
            part = part.part(0, taken, 0)
        keys = set(part.keys)
        usual = len(keys) == taken and self._keys.isdisjoint(keys) and KNOWN.keys() >= set(part.names)
        if not usual or not taken or self._coder.by_blocks:
            return 0
        try:
            told = _told(part.facts)
        except Refused:  # taken one by one, those before it are in the shard when it is refused
            return 0
        self._waiting.extend(part, sizes[:taken].tolist(), *told)
        self._keys |= keys
        self.samples, self.tar_bytes = self.samples + taken, self.tar_bytes + int(ends[taken - 1])
        if self.tar_bytes >= self._put_at:
            self._put(self.samples, self.tar_bytes)
        return taken

    def _make_way(self, samples: int, tar_bytes: int, members: int) -> None:
        """A large sample comes: what waits is written before it, so that it can be put on its own."""
        if members > MAX_MEMBERS:
            raise Refused("too-big", "a sample has at most 65535 members")
        if self._waiting and not self._coder.by_blocks:
            self._put(samples, tar_bytes)

    def _put_if_allowed(self, samples: int, tar_bytes: int) -> None:
        if not (self._coder.by_blocks and samples % self._block_samples):
            self._put(samples, tar_bytes)

    def _put(self, samples: int, tar_bytes: int, *, last: bool = False) -> None:
        """Lay out what waits and write it: so long is the shard then. `last`: its last block ends here."""
        waiting = self._waiting
        count = len(waiting)
        file_start, done = self._out.position, samples - count
        stops = np.arange(self._block_samples - done % self._block_samples, count + 1, self._block_samples)
        if last and samples % self._block_samples:
            stops = np.append(stops, count)
        ends: Sequence[int] = [0] * len(stops)
        members = file_ends = ends  # where nothing waits, the last block ends where the tar does
        if count:
            columns = waiting.columns()
            ends = columns.ends[stops - 1].tolist()
            members = columns.counts.cumsum()[stops - 1].tolist()
            large = count == 1 and tar_bytes - self._put_bytes >= LARGE_BYTES and not self._coder.by_blocks
            spans = lay_out_apart(columns) if large else lay_out(columns)
            pieces, file_ends = self._coder.code(spans.pieces, ends)
            self._out.put(pieces)
            self._pages.take(columns, spans, self._put_bytes)
        places = zip((stops + done).tolist(), members, ends, file_ends, strict=True)
        start, first = self._put_bytes, self._put_members
        self._put_members += len(columns.names) if count else 0
        self._pages.cut([BlockEnd(at, first + num, start + end, file_start + file) for at, num, end, file in places])
        self._put_bytes, self._put_at = tar_bytes, tar_bytes + PUT_BYTES
        waiting.clear()

    def _read_back(self) -> None:
        found, size = xxhash.xxh3_128(), 0
        for piece in fs.read_pieces(self._file.path):
            found.update(piece)
            size += len(piece)
        if size != self._file.bytes or found.digest() != self._out.check.digest():
            raise fs.read_back_differs(self._file.path)

    def _describe(self, shard: FileRef) -> tuple[ShardEntry, bytes]:
        pages = self._pages
        pages.finish()
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


def _check_parts(parts: Sequence[Part], facts: Facts) -> None:
    """Refuse what no shard can hold, before any of it is taken."""
    if len(parts) > MAX_MEMBERS:
        raise Refused("too-big", "a sample has at most 65535 members")
    for name, data, _ in parts:
        tar.check_member(name, len(data))
    try:
        pack_numbers(*facts[:5])
    except struct.error:
        raise Refused("too-big", UNCOUNTABLE) from None


def _told(facts: Sequence[Facts]) -> tuple[list[bytes], list[tuple[str, ...]]]:
    """What the index says of samples: numbers, packed, and words. Raises Refused."""
    first, count = facts[0], len(facts)
    try:
        if facts.count(first) == count:
            return [pack_numbers(*first[:5])] * count, [first[5:]] * count
        return [pack_numbers(*one[:5]) for one in facts], [one[5:] for one in facts]
    except struct.error:
        raise Refused("too-big", UNCOUNTABLE) from None


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
