"""The index of a tar that others made, from one pass over its bytes.

Here: files grouped to samples as webdataset does it, spans, digests, pages, the entry.
Elsewhere: which bytes are taken for a tar (foreign.py), where they come from (streaming.py), what a record is made
of them (read.shapes), many tars (read.foreign).
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import blake3
import msgspec
import xxhash

from shardkit.errors import ShardDamaged
from shardkit.spec import Codec
from shardkit.store.foreign import ForeignFile, ForeignLimits, ForeignReader
from shardkit.store.index import (
    CHUNK_BYTES,
    LONG_BYTES,
    Facts,
    IndexHead,
    IndexPage,
    PageRef,
    blake3_128,
    encode_head,
)
from shardkit.store.layout import FileRef, ShardEntry, Sums
from shardkit.store.streaming import Frame, Ranges, open_tar

BLOCK_SAMPLES = 16
KEPT_BYTES = 16 << 20
"""Bytes of a sample's members that are kept at hand to describe it; longer members only pass by."""

LANE = "tars"
MAX_MEMBERS = 0xFFFF
META = re.compile(r"__[^/]*__(?:$|/)")

Describe = Callable[[str, dict[str, bytes | None]], Facts]
"""What the index says of a sample: by its name and its members' bytes, None for those that are too long."""


class IndexedTar(msgspec.Struct, frozen=True, kw_only=True):
    """One tar's entry (without its URL and ordinal) and the bytes of its index."""

    entry: ShardEntry
    index: bytes


def index_tar(store: Ranges, path: str, size: int, describe: Describe, limits: ForeignLimits) -> IndexedTar:
    """Read a file of `size` bytes once, in bounded memory, and index it.

    Raises ShardDamaged (hostile, cut, a name that comes twice, frames that do not hold whole samples), StorageFailed.
    """
    where = f"{store.url}/{path}" if "://" not in path else path
    file, tar = open_tar(store, path, size, where)
    reader = ForeignReader(tar, where, limits, size if tar is file else None)
    blocks = _Blocks(where, describe, tar.frames if tar is not file else None)
    for sample in _group(reader, where):
        blocks.add(sample)
    blocks.end_block()
    codec: Codec = "tar" if tar is file else "tar.zst"
    shard = FileRef(digest=file.hexdigest(), bytes=size)
    return blocks.seal(shard, codec, reader.at)


def split_name(name: str) -> tuple[str, str] | None:
    """(the sample's name, the member's) of a file, as webdataset splits it; None where it belongs to no sample."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not dot or META.match(name):
        return None
    if stem:
        return folder + slash + stem, extension.lower()
    if slash and "." not in folder.rpartition("/")[2]:
        return folder + slash, extension.lower()
    return None


def _group(reader: ForeignReader, where: str) -> Iterator[TarSample]:
    """Neighbouring files of one name as samples. Raises ShardDamaged where a name comes back, or a member twice."""
    sample: TarSample | None = None
    names: set[int] = set()
    for file in reader.files():
        split = None if file.is_folder else split_name(file.name)
        if split is None:
            if sample is not None:
                sample.pass_over(file, reader)
            continue
        name, member = split
        if sample is None or sample.name != name:
            if sample is not None:
                yield sample
            mark = xxhash.xxh3_64_intdigest(name.encode())
            if mark in names:
                raise _torn(where, file, f"sample {name!r} comes a second time; its files do not lie side by side")
            names.add(mark)
            sample = TarSample(name, file.start)
        if member in sample.kept or len(sample.members) >= MAX_MEMBERS:
            raise _torn(where, file, f"sample {name!r} has {member!r} twice, or too many members")
        sample.take(member, file, reader)
    if sample is not None:
        yield sample


def _torn(where: str, file: ForeignFile, message: str) -> ShardDamaged:
    return ShardDamaged(
        f"{where}, offset {file.start}: {message}; make the tar again with each sample's files together, sorted by name"
    )


class TarSample:
    """One sample while its files come by: its members, the hashes of its span, bytes kept to describe it."""

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start
        self.members: list[tuple[str, int, int, bytes]] = []
        """(name, offset in the span, bytes, BLAKE3-128), in the order of the tar."""
        self.kept: dict[str, bytes | None] = {}
        self._kept_bytes = 0
        self._span = Span()
        self._ended: Span | None = None

    def take(self, member: str, file: ForeignFile, reader: ForeignReader) -> None:
        """Read a file as the next member."""
        self._ended = None
        digest = blake3.blake3()
        keep = self._kept_bytes + file.size <= KEPT_BYTES
        pieces = []
        for piece in self._read(file, reader):
            digest.update(piece)
            if keep:
                pieces.append(piece)
        self.kept[member] = b"".join(pieces) if keep else None
        self._kept_bytes += file.size if keep else 0
        self.members.append((member, file.offset - self.start, file.size, digest.digest(length=16)))

    def pass_over(self, file: ForeignFile, reader: ForeignReader) -> None:
        """Read a file that belongs to no sample: part of the span only if a further member follows."""
        if self._ended is None:
            self._ended = self._span.copy()
        for _ in self._read(file, reader):
            pass

    @property
    def span(self) -> Span:
        """The span as it stands, up to the end of its last member."""
        return self._ended or self._span

    def key(self) -> bytes:
        """16 bytes that depend on the members' names and content alone."""
        key = xxhash.xxh3_128()
        for name, _, _, digest in self.members:
            key.update(name.encode() + b"\0" + digest)
        return key.digest()

    def _read(self, file: ForeignFile, reader: ForeignReader) -> Iterator[bytes]:
        self._span.add(file.headers)
        for piece in reader.pieces():
            self._span.add(piece)
            yield piece
        self._span.add(reader.padding)


class Span:
    """The bytes of a span as they come: their XXH3-64 and, once they are many, the digests of their chunks."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = xxhash.xxh3_64()
        self._early: list[bytes] = []
        self._cut = 0
        self._chunk = blake3.blake3()
        self._digests: list[bytes] = []

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._hash.update(data)
        self.size += len(data)
        self._early.append(data)
        if self.size > LONG_BYTES:
            self._cut_up(b"".join(self._early))
            self._early = []

    def copy(self) -> Span:
        """The same, to go on from later."""
        other = Span()
        other.size, other._cut = self.size, self._cut
        other._hash, other._chunk = self._hash.copy(), self._chunk.copy()
        other._early, other._digests = list(self._early), list(self._digests)
        return other

    def hash(self) -> int:
        """XXH3-64 of the span."""
        return self._hash.intdigest()

    def chunk_digests(self) -> bytes:
        """BLAKE3-128 of every CHUNK_BYTES of a span longer than LONG_BYTES."""
        rest = [self._chunk.digest(length=16)] if self._cut % CHUNK_BYTES else []
        return b"".join([*self._digests, *rest])

    def _cut_up(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            part, view = view[: CHUNK_BYTES - self._cut % CHUNK_BYTES], view[CHUNK_BYTES - self._cut % CHUNK_BYTES :]
            self._chunk.update(part)
            self._cut += len(part)
            if self._cut % CHUNK_BYTES == 0:
                self._digests.append(self._chunk.digest(length=16))
                self._chunk = blake3.blake3()


class _Blocks:
    """Samples cut into blocks, each packed to a page at once; dictionaries and sums over the shard.

    A block is BLOCK_SAMPLES of a plain tar, or one of its zstd frames.
    """

    def __init__(self, where: str, describe: Describe, frames: list[Frame] | None) -> None:
        self._where, self._describe, self._frames = where, describe, frames
        self._rows: list[tuple[TarSample, Facts]] = []
        self._frame: Frame | None = None
        self._pages: list[bytes] = []
        self._refs: list[PageRef] = []
        self._words: tuple[dict[str, int], ...] = ({}, {}, {}, {}, {})
        self._modalities: dict[str, int] = {}
        self._sums = [0, 0, 0, 0, 0]

    def add(self, sample: TarSample) -> None:
        """The next sample."""
        if self._frames is not None:
            self._enter_frame(sample, self._frames)
        facts = _bounded(self._describe(sample.name, sample.kept))
        sample.kept = {}
        self._rows.append((sample, facts))
        if self._frames is None and len(self._rows) == BLOCK_SAMPLES:
            self.end_block()

    def end_block(self) -> None:
        """The samples so far make a block."""
        if not self._rows:
            return
        first, last = self._rows[0][0], self._rows[-1][0]
        span = (first.start, last.start + last.span.size - first.start)
        count = len(self._rows)
        if self._frame is not None and self._refs and (count > self._refs[0].samples or self._short()):
            raise self._uneven()
        page = msgspec.msgpack.encode(self._page())
        self._pages.append(page)
        self._refs.append(PageRef(len(page), blake3_128(page), count, *(self._frame or (*span, *span))))
        self._rows.clear()

    def seal(self, shard: FileRef, codec: Codec, tar_bytes: int) -> IndexedTar:
        """The entry and the index of the whole."""
        samples = sum(ref.samples for ref in self._refs)
        block_samples = self._refs[0].samples if codec == "tar.zst" and self._refs else BLOCK_SAMPLES
        sources, categories, modality_sets, licences, names = (tuple(words) for words in self._words)
        head = encode_head(
            IndexHead(
                shard=shard.digest, codec=codec, samples=samples, block_samples=block_samples, tar_bytes=tar_bytes,
                sources=sources, categories=categories, modality_sets=modality_sets, licences=licences,
                member_names=names, pages=tuple(self._refs),
            )
        )  # fmt: skip
        index = head + b"".join(self._pages)
        entry = ShardEntry(
            shard=shard, codec=codec, tar_bytes=tar_bytes, samples=samples, block_samples=block_samples,
            index=FileRef(digest=blake3.blake3(index).hexdigest(), bytes=len(index)),
            head_bytes=len(head), head_digest=blake3_128(head).hex(), source=sources[0] if sources else LANE, lane=LANE,
            ordinal=0, licences=tuple(sorted(word for word in licences if word)),
            modalities=dict(sorted(self._modalities.items())),
            sums=Sums(**dict(zip(Sums.__struct_fields__, self._sums, strict=True))),
        )  # fmt: skip
        return IndexedTar(entry=entry, index=index)

    def _enter_frame(self, sample: TarSample, frames: list[Frame]) -> None:
        frame = frames[bisect_left(frames, (sample.start + 1,)) - 1]
        if sample.start + sample.span.size > frame.tar_offset + frame.tar_bytes:
            raise self._uneven()
        if frame != self._frame:
            self.end_block()
            self._frame = frame

    def _short(self) -> bool:
        return self._refs[-1].samples < self._refs[0].samples

    def _uneven(self) -> ShardDamaged:
        return ShardDamaged(
            f"{self._where}: its zstd frames do not hold whole samples, the same number each; unpack it (`zstd -d`) "
            "and index the plain .tar"
        )

    def _page(self) -> IndexPage:
        samples, facts = [row[0] for row in self._rows], list(zip(*(row[1] for row in self._rows), strict=True))
        members = [member for sample in samples for member in sample.members]
        names = [sample.name.encode() for sample in samples]
        for at in range(5):
            self._sums[at] += sum(facts[at])
        for word in facts[7]:
            self._modalities[word] = self._modalities.get(word, 0) + 1
        numbers = {name: facts[at] for at, name in enumerate(Facts._fields[:5])}
        words = {name: self._positions(at, facts[5 + at]) for at, name in enumerate(_WORDS)}
        return IndexPage(
            keys=b"".join([sample.key() for sample in samples]),
            offsets=_pack("Q", [sample.start for sample in samples]),
            sizes=_pack("Q", [sample.span.size for sample in samples]),
            hashes=_pack("Q", [sample.span.hash() for sample in samples]),
            **{name: _pack(_FORMS[name], values) for name, values in numbers.items()},
            **{name: _pack("H", values) for name, values in words.items()},
            member_counts=_pack("H", [len(sample.members) for sample in samples]),
            member_names=_pack("H", self._positions(4, [name for name, _, _, _ in members])),
            member_offsets=_pack("Q", [offset for _, offset, _, _ in members]),
            member_sizes=_pack("Q", [size for _, _, size, _ in members]),
            member_digests=b"".join([digest for _, _, _, digest in members]),
            names=b"".join(names),
            name_lengths=_pack("H", [len(name) for name in names]),
            chunk_digests=b"".join([sample.span.chunk_digests() for sample in samples]),
        )

    def _positions(self, table: int, words: Sequence[str]) -> list[int]:
        known = self._words[table]
        found = [known.setdefault(word, len(known)) for word in words]
        if len(known) > MAX_MEMBERS:
            raise ShardDamaged(
                f"{self._where}: more than {MAX_MEMBERS} different names of members, as where dots stand in the "
                "samples' own names (a name ends at its first dot); make the tar again with other names"
            )
        return found


_WORDS = ("sources", "categories", "modality_sets", "licences")
_FORMS = {"text_characters": "I", "images": "H", "pixels": "Q", "audio_ms": "I", "frames": "I"}
_MOST = {"I": 0xFFFFFFFF, "H": 0xFFFF, "Q": (1 << 63) - 1}


def _bounded(facts: Facts) -> Facts:
    """Facts that fit their columns: what is larger counts as the largest number."""
    return facts._replace(**{name: min(max(0, getattr(facts, name)), _MOST[form]) for name, form in _FORMS.items()})


def _pack(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{form}", *values)
