"""The index of a shard: where each sample and member lies, how long it is, its digest.

Here: encoding and decoding of heads and pages, each against its digest; reading them from a store.
Elsewhere: who fills them (shard.py), the order of reading (read). Layout: specs/FORMAT.md, "Index".
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import blake3
import msgspec
import numpy as np

from shardkit.errors import ShardDamaged
from shardkit.records.sample import Sample, modality_set
from shardkit.spec import Codec
from shardkit.store.joined import join_pages
from shardkit.store.layout import FORMAT, UNREADABLE, Count, ShardEntry, index_path
from shardkit.store.urls import ByteStore

MAGIC = b"SHKIDX01"
PREFIX_BYTES = len(MAGIC) + 4
MAX_PAGE_BYTES = 256 << 20
LONG_BYTES, CHUNK_BYTES = 1 << 20, 256 << 10
"""Spans longer than this, in tars that others made, have a digest for every so many bytes: read by range, checked."""


class PageRef(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One page as the head names it, and where the bytes of its block lie in the tar and in the file.

    `digest` is BLAKE3-128. For a plain tar, file offset and bytes equal those of the tar; else they are the frame's.
    """

    page_bytes: Count
    digest: bytes
    samples: Count
    tar_offset: Count
    tar_bytes: Count
    file_offset: Count
    file_bytes: Count


class IndexHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first part of an index. Dictionaries list their words in order of first appearance; pages hold positions."""

    format: int = FORMAT
    shard: str
    codec: Codec
    samples: Count
    block_samples: Annotated[int, msgspec.Meta(ge=1)]
    tar_bytes: Count
    sources: tuple[str, ...]
    categories: tuple[str, ...]
    modality_sets: tuple[str, ...]
    licences: tuple[str, ...]
    member_names: tuple[str, ...]
    pages: tuple[PageRef, ...]


class IndexPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Packed little-endian columns of one block. A row a sample, then a row a member, samples in stored order.

    keys 16 bytes; offsets (of the span in the tar), sizes (of the span), hashes (XXH3-64 of the span), pixels: u64;
    text_characters, audio_ms, frames: u32; images and the dictionary positions: u16. Member names u16, offsets
    (of the data within the span) and sizes u64, digests 16 bytes.

    Only tars that others made have the last three: the samples' names in UTF-8 one behind the other, their lengths in
    bytes (u16), and the BLAKE3-128 of every CHUNK_BYTES of each span longer than LONG_BYTES.
    """

    keys: bytes
    offsets: bytes
    sizes: bytes
    hashes: bytes
    text_characters: bytes
    images: bytes
    pixels: bytes
    audio_ms: bytes
    frames: bytes
    sources: bytes
    categories: bytes
    modality_sets: bytes
    licences: bytes
    member_counts: bytes
    member_names: bytes
    member_offsets: bytes
    member_sizes: bytes
    member_digests: bytes
    names: bytes = b""
    name_lengths: bytes = b""
    chunk_digests: bytes = b""

    @property
    def samples(self) -> int:
        """How many samples the page lists."""
        return len(self.keys) // 16

    def column(self, name: str) -> np.ndarray:
        """A numeric column as a numpy array that views the page's bytes."""
        return np.frombuffer(getattr(self, name), dtype=_DTYPES[name])

    def name_starts(self) -> np.ndarray:
        """Where the name of each sample begins in `names`, and where the last one ends; all 0 for a shard of ours."""
        lengths = self.column("name_lengths") if self.names else np.zeros(self.samples, dtype=np.int64)
        return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))

    def chunk_starts(self) -> np.ndarray:
        """The number of the first chunk digest of each sample, and how many there are."""
        counts = chunk_counts(self.column("sizes")) if self.names else np.zeros(self.samples, dtype=np.int64)
        return np.concatenate(([0], np.cumsum(counts)))


def chunk_counts(sizes: np.ndarray) -> np.ndarray:
    """How many chunk digests spans of so many bytes have: none up to LONG_BYTES."""
    sizes = sizes.astype(np.int64)
    return np.where(sizes > LONG_BYTES, -(-sizes // CHUNK_BYTES), 0)


class MemberEntry(NamedTuple):
    """One member of a sample: its name, where its data lie in the sample's span, bytes, BLAKE3-128."""

    name: str
    offset: int
    size: int
    digest: bytes


class Rows:
    """A page unpacked to plain tuples, for reading sample by sample: a few microseconds a page.

    `offsets`, `sizes`, `hashes` are per sample; `block_offset` is where the block begins in the tar.
    """

    __slots__ = (
        "_chunks", "_digests", "_first", "_keys", "_members", "_names", "_page", "_starts", "hashes", "offsets",
        "samples", "sizes",
    )  # fmt: skip

    def __init__(self, page: IndexPage, names: Sequence[str]) -> None:
        count = self.samples = page.samples
        self.offsets: tuple[int, ...] = struct.unpack(f"<{count}Q", page.offsets)
        self.sizes: tuple[int, ...] = struct.unpack(f"<{count}Q", page.sizes)
        self.hashes: tuple[int, ...] = struct.unpack(f"<{count}Q", page.hashes)
        counts = struct.unpack(f"<{count}H", page.member_counts)
        self._first = tuple(itertools.accumulate(counts, initial=0))
        total = self._first[-1]
        try:
            self._names = [names[at] for at in struct.unpack(f"<{total}H", page.member_names)]
        except IndexError:
            raise ShardDamaged(f"an index names a member outside of its dictionary of {len(names)} names") from None
        offsets = struct.unpack(f"<{total}Q", page.member_offsets)
        self._members = tuple(zip(offsets, struct.unpack(f"<{total}Q", page.member_sizes), strict=True))
        self._digests = page.member_digests
        self._keys = page.keys
        self._page = page
        self._starts = page.name_starts().tolist() if page.names else None
        self._chunks: list[int] = page.chunk_starts().tolist() if page.chunk_digests else [0] * (count + 1)

    def key(self, at: int) -> str:
        """The key of sample `at`: 32 hex digits, or its name in a tar that others made."""
        if self._starts is not None:
            return decode_name(self._page.names[self._starts[at] : self._starts[at + 1]])
        return self._keys[16 * at : 16 * at + 16].hex()

    def chunk_digests(self, at: int) -> list[bytes]:
        """BLAKE3-128 of every CHUNK_BYTES of the span of sample `at`; none for short ones and for shards of ours."""
        digests = self._page.chunk_digests
        return [digests[16 * chunk : 16 * chunk + 16] for chunk in range(self._chunks[at], self._chunks[at + 1])]

    def members(self, at: int) -> list[MemberEntry]:
        """The members of sample `at` in stored order, KEY.json (`json`) first."""
        return [
            MemberEntry(self._names[row], *self._members[row], self._digests[16 * row : 16 * row + 16])
            for row in range(self._first[at], self._first[at + 1])
        ]


class Facts(NamedTuple):
    """What the index says about a sample besides where it lies; `modalities` as in `image+text`."""

    text_characters: int
    images: int
    pixels: int
    audio_ms: int
    frames: int
    source: str
    category: str
    modalities: str
    licence: str


def facts_of(sample: Sample) -> Facts:
    """The facts of a sample: characters of all messages and answers, images and their pixels, sound, keyframes."""
    text = 0
    for message in sample.messages:
        text += len(message.content)
    if sample.preference is not None:
        text += len(sample.preference.chosen) + len(sample.preference.rejected)
    media = sample.modalities
    if not (media.image or media.audio or media.video):
        modalities = "text" if sample.messages or sample.preference else ""
        known = (text, 0, 0, 0, 0, sample.source, sample.category, modalities, sample.licence)
        return tuple.__new__(Facts, known)  # half the time of the call, on the path of every text
    sound = [audio.duration_seconds for audio in media.audio]
    sound += [video.duration_seconds for video in media.video if video.audio]
    return Facts(
        text,
        len(media.image),
        sum([image.width * image.height for image in media.image]),
        sum([round(seconds * 1000) for seconds in sound]),
        sum([len(video.keyframes) for video in media.video]),
        sample.source,
        sample.category,
        modality_name(sample),
        sample.licence,
    )


def modality_name(sample: Sample) -> str:
    """The sample's set of modalities as one word, sorted: `audio+text`."""
    return _joined(modality_set(sample))


@functools.cache
def _joined(modalities: tuple[str, ...]) -> str:
    return "+".join(sorted(modalities))


def decode_name(data: bytes) -> str:
    """A sample's name from the index. Raises ShardDamaged where it is no UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ShardDamaged("an index holds a name that is not UTF-8; run `shardkit verify`") from None


def blake3_128(data: bytes | memoryview) -> bytes:
    """The first 16 bytes of BLAKE3."""
    return blake3.blake3(data).digest(length=16)


def encode_head(head: IndexHead) -> bytes:
    """The first bytes of an index file: magic, length, head."""
    body = msgspec.msgpack.encode(head)
    return MAGIC + struct.pack("<I", len(body)) + body


def decode_head(data: bytes, digest: str, where: str) -> IndexHead:
    """The head in the first `head_bytes` of an index. `digest` is its BLAKE3-128 in hex. Raises ShardDamaged."""
    found = blake3_128(data).hex()
    if found != digest:
        raise ShardDamaged(f"{where}: its head has digest {found}, the manifest says {digest}; run `shardkit verify`")
    if data[:8] != MAGIC or int.from_bytes(data[8:PREFIX_BYTES], "little") != len(data) - PREFIX_BYTES:
        raise ShardDamaged(f"{where}: it does not begin with an index head of {len(data)} bytes")
    try:
        head = msgspec.msgpack.decode(data[PREFIX_BYTES:], type=IndexHead)
    except UNREADABLE as error:
        raise ShardDamaged(f"{where}: its head cannot be decoded: {error}") from None
    if head.format > FORMAT:
        raise ShardDamaged(
            f"{where}: written in format {head.format}, this version reads up to {FORMAT}; update shardkit"
        )
    return head


def decode_page(data: bytes | memoryview, ref: PageRef, where: str) -> IndexPage:
    """The page in `data`, checked against its digest and its number of samples. Raises ShardDamaged."""
    if len(data) != ref.page_bytes or blake3_128(data) != ref.digest:
        raise ShardDamaged(
            f"{where}: the page of {ref.page_bytes} bytes does not have its digest; run `shardkit verify`"
        )
    try:
        page = _page_decoder.decode(data)
    except UNREADABLE as error:
        raise ShardDamaged(f"{where}: a page cannot be decoded: {error}") from None
    _check_lengths(page, ref.samples, where)
    return page


def _check_lengths(page: IndexPage, samples: int, where: str) -> None:
    members = len(page.member_digests) // 16
    for name in _REQUIRED:
        dtype = _DTYPES[name]
        rows = members if name.startswith("member_") and name != "member_counts" else samples
        if len(getattr(page, name)) != rows * dtype.itemsize:
            raise ShardDamaged(f"{where}: column {name} of a page has a wrong length")
    if int(page.column("member_counts").sum(dtype=np.int64)) != members:
        raise ShardDamaged(f"{where}: the counts of members of a page do not add up")
    if page.names or page.name_lengths or page.chunk_digests:
        _check_foreign(page, where)


def _check_foreign(page: IndexPage, where: str) -> None:
    lengths = page.name_lengths
    if len(lengths) != 2 * page.samples or int(page.column("name_lengths").sum(dtype=np.int64)) != len(page.names):
        raise ShardDamaged(f"{where}: the lengths of names of a page do not add up")
    if not bool(page.column("name_lengths").all()) or len(page.chunk_digests) != 16 * int(page.chunk_starts()[-1]):
        raise ShardDamaged(f"{where}: a name of a page is empty, or its chunk digests are not those of its spans")


class IndexReader:
    """The index of one shard in a store: the head at first use, then pages one by one, or all at once."""

    def __init__(self, store: ByteStore, entry: ShardEntry) -> None:
        self._store = store
        self._entry = entry
        self._path = index_path(entry.index.digest)
        self._head: IndexHead | None = None
        self._starts: tuple[int, ...] = ()

    @property
    def head(self) -> IndexHead:
        """The head, fetched and checked once. Raises ShardDamaged, StorageFailed."""
        if self._head is None:
            data = self._store.read_range(self._path, 0, self._entry.head_bytes)
            self._keep(decode_head(data, self._entry.head_digest, self._path))
        assert self._head is not None
        return self._head

    def page(self, block: int) -> IndexPage:
        """The page of one block, fetched and checked. Raises ShardDamaged, StorageFailed."""
        ref = self.head.pages[block]
        return decode_page(self._store.read_range(self._path, self._starts[block], ref.page_bytes), ref, self._path)

    def pages(self) -> Iterator[IndexPage]:
        """All pages in order, from one read of the whole file, checked against the file's digest as well."""
        data = self._read_whole()
        for start, ref in zip(self._starts, self.head.pages, strict=False):
            yield decode_page(data[start : start + ref.page_bytes], ref, self._path)

    def whole(self) -> IndexPage:
        """All pages as one, from one read of the whole file, checked against the file's digest.

        Pages are not checked one by one. Raises ShardDamaged, StorageFailed.
        """
        data = self._read_whole()
        try:
            columns, samples = join_pages(data, self._starts, _page_decoder)
        except UNREADABLE as error:
            raise ShardDamaged(f"{self._path}: a page cannot be decoded: {error}") from None
        if samples != [ref.samples for ref in self.head.pages]:
            raise ShardDamaged(f"{self._path}: a page does not have as many samples as the head says")
        joined = IndexPage(**{name: columns.get(name, b"") for name in _COLUMNS})
        _check_lengths(joined, self.head.samples, self._path)
        return joined

    def _read_whole(self) -> memoryview:
        data = self._store.read_range(self._path, 0, self._entry.index.bytes)
        digest = blake3.blake3(data).hexdigest()
        if digest != self._entry.index.digest:
            raise ShardDamaged(f"{self._path}: its content has digest {digest}; run `shardkit verify`")
        self._keep(self._head or decode_head(data[: self._entry.head_bytes], self._entry.head_digest, self._path))
        return memoryview(data)

    def _keep(self, head: IndexHead) -> None:
        entry = self._entry
        said = (head.shard, head.codec, head.samples, head.block_samples, head.tar_bytes)
        if said != (entry.shard.digest, entry.codec, entry.samples, entry.block_samples, entry.tar_bytes):
            raise ShardDamaged(f"{self._path}: this index belongs to another shard than {entry.shard.digest}")
        starts = tuple(itertools.accumulate((ref.page_bytes for ref in head.pages), initial=entry.head_bytes))
        if starts[-1] != entry.index.bytes or sum(ref.samples for ref in head.pages) != head.samples:
            raise ShardDamaged(f"{self._path}: its pages do not add up to the file")
        full, block = [ref.samples for ref in head.pages[:-1]], head.block_samples
        if full.count(block) != len(full) or (head.pages and not 0 < head.pages[-1].samples <= block):
            raise ShardDamaged(f"{self._path}: its pages are not of {block} samples each")
        self._head, self._starts = head, starts


_page_decoder = msgspec.msgpack.Decoder(IndexPage)
_U2, _U4, _U8, _B16 = (np.dtype(name) for name in ("<u2", "<u4", "<u8", "V16"))
_DTYPES: dict[str, np.dtype] = {
    "keys": _B16,
    "offsets": _U8,
    "sizes": _U8,
    "hashes": _U8,
    "text_characters": _U4,
    "images": _U2,
    "pixels": _U8,
    "audio_ms": _U4,
    "frames": _U4,
    "sources": _U2,
    "categories": _U2,
    "modality_sets": _U2,
    "licences": _U2,
    "member_counts": _U2,
    "member_names": _U2,
    "member_offsets": _U8,
    "member_sizes": _U8,
    "member_digests": _B16,
    "name_lengths": _U2,
    "chunk_digests": _B16,
}
_COLUMNS = IndexPage.__struct_fields__
_REQUIRED = tuple(name for name in _DTYPES if name not in ("name_lengths", "chunk_digests"))
