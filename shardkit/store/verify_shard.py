"""Verifying one shard and its index, in one pass over its bytes.

Here: what must agree with what, and the damages found.
Elsewhere: the dataset's chain (verify.py), strict reading of a span (tar.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import blake3
import msgspec
import xxhash

from shardkit.errors import Refused, ShardDamaged
from shardkit.records.key import key_from_digests
from shardkit.records.sample import Sample, decode_sample, encode_sample, member_names
from shardkit.store import tar
from shardkit.store.index import Facts, IndexHead, IndexPage, IndexReader, MemberEntry, Rows, blake3_128, facts_of
from shardkit.store.layout import ShardEntry, Sums, index_path, shard_path
from shardkit.store.manifest import decompress_block
from shardkit.store.urls import ByteStore
from shardkit.store.verify_foreign import Deep as Deep
from shardkit.store.verify_foreign import verify_foreign

CHUNK_BYTES = 4 << 20


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be: what (`shard`, `sample`, `member`, …), where, and why."""

    what: str
    where: str
    message: str
    key: str = ""
    member: str = ""


class Findings:
    """What a verification has counted and found so far."""

    def __init__(self, *, deep: Deep | None = None, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.deep = deep
        self.damages: list[Damage] = []
        self.samples = self.members = self.bytes = self.total_bytes = 0
        self._on_progress = on_progress

    def damage(self, what: str, where: str, message: str, *, key: str = "", member: str = "") -> None:
        """Note a damage."""
        place = where + (f" sample {key}" if key else "") + (f" member {member}" if member else "")
        self.damages.append(Damage(what=what, where=place, message=message, key=key, member=member))

    def advance(self, size: int) -> None:
        """Count bytes of shards."""
        self.bytes += size
        if self._on_progress is not None:
            self._on_progress(self.bytes, self.total_bytes)

    @contextmanager
    def watch(self, what: str, where: str) -> Iterator[None]:
        """Note the damage that is raised inside, and go on behind the block."""
        try:
            yield
        except ShardDamaged as damage:
            self.damage(what, where, str(damage))


def verify_shard(store: ByteStore, entry: ShardEntry, findings: Findings) -> None:
    """Check an index and its shard against each other and against the manifest's entry."""
    if entry.url:
        _verify_foreign(store, entry, findings)
        return
    path = shard_path(entry)
    before = len(findings.damages)
    pages: list[IndexPage] = []
    reader = IndexReader(store, entry)
    with findings.watch("index", index_path(entry.index.digest)):
        pages = list(reader.pages())
        _check_index(reader.head, pages, entry)
        check_length(store, index_path(entry.index.digest), entry.index.bytes)
    check_length(store, path, entry.shard.bytes)
    stream = _Stream(store, path, entry.shard.bytes, findings)
    if len(findings.damages) == before:
        with findings.watch("shard", path):
            _check_blocks(stream, reader.head, pages, findings)
            _check_end(stream, entry)
    if stream.finish() != entry.shard.digest and len(findings.damages) == before:
        findings.damage("shard", path, f"its bytes do not have the digest {entry.shard.digest}")


def _verify_foreign(store: ByteStore, entry: ShardEntry, findings: Findings) -> None:
    def note(message: str, key: str, member: str) -> None:
        findings.damage(
            "member" if member else "sample" if key else "shard", entry.url, message, key=key, member=member
        )

    with findings.watch("shard", entry.url):
        check_length(store, entry.url, entry.shard.bytes)
        samples, members = verify_foreign(store, entry, note, findings.deep)
        findings.samples += samples
        findings.members += members
    findings.advance(entry.shard.bytes)


class _Stream:
    """A shard's bytes in order; each is hashed once."""

    def __init__(self, store: ByteStore, path: str, size: int, findings: Findings) -> None:
        self.path = path
        self.left = size
        self._store, self._findings = store, findings
        self._digest = blake3.blake3()
        self._buffer = memoryview(b"")
        self._next = 0
        self._end = size

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        if size > self.left:
            raise ShardDamaged(f"{self.path}: the index names {size} bytes where {self.left} are left")
        if size > len(self._buffer):
            self._fill(size)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        self.left -= size
        return found

    def finish(self) -> str:
        """Read what is left; the digest of the whole."""
        while self.left:
            self.take(min(self.left, CHUNK_BYTES))
        return self._digest.hexdigest()

    def _fill(self, size: int) -> None:
        wanted = min(max(size - len(self._buffer), CHUNK_BYTES), self._end - self._next)
        data = self._store.read_range(self.path, self._next, wanted)
        self._next += wanted
        self._digest.update(data)
        self._findings.advance(wanted)
        self._buffer = memoryview(bytes(self._buffer) + data if self._buffer else data)


def check_length(store: ByteStore, path: str, wanted: int) -> None:
    """Raises ShardDamaged where a file is longer or shorter than the manifest says."""
    size = store.size(path)
    if size != wanted:
        raise ShardDamaged(f"{path}: has {size} bytes, the manifest says {wanted}")


def _check_index(head: IndexHead, pages: list[IndexPage], entry: ShardEntry) -> None:
    _check_words(head, pages)
    tar_at = file_at = 0
    for number, (ref, page) in enumerate(zip(head.pages, pages, strict=True)):
        rows = Rows(page, head.member_names)
        spans = zip(rows.offsets, rows.sizes, strict=True)
        full = ref.samples == head.block_samples or (number == len(pages) - 1 and 0 < ref.samples <= head.block_samples)
        if (ref.tar_offset, ref.file_offset) != (tar_at, file_at) or not full:
            raise ShardDamaged(f"block {number} does not follow the one before it")
        for offset, size in spans:
            if offset != tar_at:
                raise ShardDamaged(f"the spans of block {number} are not adjacent")
            tar_at += size
        if tar_at != ref.tar_offset + ref.tar_bytes or (head.codec == "tar" and ref.file_bytes != ref.tar_bytes):
            raise ShardDamaged(f"block {number} does not have the bytes of its spans")
        file_at += ref.file_bytes
    if tar_at + len(tar.END) != head.tar_bytes:
        raise ShardDamaged("its spans do not add up to the tar")
    _check_sums(head, pages, entry)


def _check_words(head: IndexHead, pages: list[IndexPage]) -> None:
    for name, table in _words(head):
        if any(int(page.column(name).max()) >= len(table) for page in pages if page.samples):
            raise ShardDamaged(f"column {name} points outside of its dictionary of {len(table)} words")


def _words(head: IndexHead) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (
        ("sources", head.sources),
        ("categories", head.categories),
        ("modality_sets", head.modality_sets),
        ("licences", head.licences),
    )


def _check_sums(head: IndexHead, pages: list[IndexPage], entry: ShardEntry) -> None:
    sums = {name: sum(int(page.column(name).sum()) for page in pages) for name in Sums.__struct_fields__}
    modalities: dict[str, int] = {}
    for page in pages:
        for at in page.column("modality_sets").tolist():
            modalities[head.modality_sets[at]] = modalities.get(head.modality_sets[at], 0) + 1
    if Sums(**sums) != entry.sums or modalities != entry.modalities:
        raise ShardDamaged("its columns do not add up to the sums in the manifest")
    if tuple(sorted(word for word in head.licences if word)) != entry.licences:
        raise ShardDamaged("its licences are not those in the manifest")


def _check_blocks(stream: _Stream, head: IndexHead, pages: list[IndexPage], findings: Findings) -> None:
    seen: set[str] = set()
    for ref, page in zip(head.pages, pages, strict=True):
        rows = Rows(page, head.member_names)
        facts = page_facts(page, head)
        block = None
        if head.codec == "tar.zst":
            block = memoryview(decompress_block(stream.take(ref.file_bytes), ref.tar_bytes, stream.path))
        for at in range(rows.samples):
            start = rows.offsets[at] - ref.tar_offset
            span = stream.take(rows.sizes[at]) if block is None else block[start : start + rows.sizes[at]]
            _check_sample(span, rows, at, facts[at], _Place(stream.path, rows.key(at), findings))
            if rows.key(at) in seen:
                findings.damage("sample", stream.path, "its key occurs twice in the shard", key=rows.key(at))
            seen.add(rows.key(at))


def _check_end(stream: _Stream, entry: ShardEntry) -> None:
    rest: bytes | memoryview = stream.take(min(stream.left, CHUNK_BYTES))
    if entry.codec == "tar.zst":
        rest = decompress_block(rest, len(tar.END), stream.path)
    if rest != tar.END or stream.left:
        raise ShardDamaged(f"{stream.path}: does not end with exactly two zero blocks")


class _Place:
    """Where damages of one sample are noted."""

    def __init__(self, path: str, key: str, findings: Findings) -> None:
        self.path, self.key, self.findings = path, key, findings

    def damage(self, message: str, member: str = "") -> None:
        self.findings.damage("member" if member else "sample", self.path, message, key=self.key, member=member)


def _check_sample(span: memoryview, rows: Rows, at: int, facts: Facts, place: _Place) -> None:
    before = len(place.findings.damages)
    members = rows.members(at)
    place.findings.samples += 1
    place.findings.members += len(members)
    for member in members:
        if blake3_128(span[member.offset : member.offset + member.size]) != member.digest:
            place.damage("its bytes do not have the digest in the index", member.name)
    try:
        key, found = tar.walk_span(span, "its span")
    except ShardDamaged as damage:
        place.damage(str(damage))
        return
    if key.decode() != place.key or found != [(member.name, member.offset, member.size) for member in members]:
        place.damage("its headers and the index name different members")
    if len(place.findings.damages) == before and xxhash.xxh3_64_intdigest(span) != rows.hashes[at]:
        place.damage("its span does not have the hash in the index")
    if len(place.findings.damages) == before:
        _check_record(span, members, facts, place)


def _check_record(span: memoryview, members: list[MemberEntry], facts: Facts, place: _Place) -> None:
    record = bytes(span[members[0].offset : members[0].offset + members[0].size])
    try:
        sample = decode_sample(record)
        if encode_sample(sample) != record:
            place.damage("is not in canonical form", "json")
    except Refused as refused:
        place.damage(f"cannot be decoded: {refused}", "json")
        return
    _check_agreement(sample, members, facts, place)
    if place.findings.deep is not None:
        for member in members[1:]:
            try:
                place.findings.deep(member.name, bytes(span[member.offset : member.offset + member.size]))
            except Refused as refused:
                place.damage(f"cannot be decoded: {refused}", member.name)


def _check_agreement(sample: Sample, members: list[MemberEntry], facts: Facts, place: _Place) -> None:
    if member_names(sample) != tuple(member.name for member in members[1:]):
        place.damage("KEY.json names other members than the tar holds", "json")
    elif key_from_digests(sample, [(member.name, member.digest) for member in members[1:]]) != place.key:
        place.damage("its key is not the one that belongs to its content")
    if facts_of(sample) != facts:
        place.damage("the index says other things about it than KEY.json")


def page_facts(page: IndexPage, head: IndexHead) -> list[Facts]:
    """What a page says about each of its samples."""
    numbers = [page.column(name).tolist() for name in Facts._fields[:5]]
    words = [[table[at] for at in page.column(name).tolist()] for name, table in _words(head)]
    return [Facts(*row) for row in zip(*numbers, *words, strict=True)]
