"""What is fuzzed: a function of bytes that may raise our declared errors and nothing else, and seeds that it takes.

Here: the table of targets. Digests are made to fit, as whoever forges a file forges its digest, too.
Elsewhere: what sources read and rows become (rows.py), feeding all of them (engine.py), options (__main__.py).
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import blake3
import msgspec
import numpy as np
import zstandard

from shardkit import Dataset, ShardkitError, open_dataset, open_loader
from shardkit.errors import Refused
from shardkit.read.mix import Mix
from shardkit.read.mixture import Mixture
from shardkit.read.pack import Cost, Pack
from shardkit.read.table import Table
from shardkit.read.where import parse_where
from shardkit.records.sample import decode_sample
from shardkit.store import manifest, reasons, tar
from shardkit.store.foreign import ForeignLimits, read_foreign
from shardkit.store.index import MAGIC as INDEX_MAGIC
from shardkit.store.index import Facts, IndexHead, IndexPage, IndexReader, blake3_128, decode_head, decode_page
from shardkit.store.layout import (
    UNREADABLE,
    DeadLetter,
    ShardEntry,
    canonical,
    index_path,
    shard_path,
    version_path,
)
from shardkit.store.tar_index import index_tar
from shardkit.store.urls import open_store
from tools.conformance.datasets import Shape, Tiny, make_tiny
from tools.conformance.foreign_tars import hostile_corpus, tar_of
from tools.fuzz.rows import ROW_TARGETS

DECLARED = (ShardkitError, Refused)
UNFOLDED = 1 << 20
"""Bytes to which anything compressed may unfold."""


class Target(NamedTuple):
    """A decoder, and inputs from which mutation begins."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def try_one(target: Target, data: bytes) -> bool:
    """Run a target; whether it took the input. Declared errors are its right; everything else comes through."""
    try:
        target.run(data)
    except DECLARED:
        return False
    return True


def strict_tar(data: bytes) -> None:
    """Our own tars: a whole one, and a span."""
    try:
        list(tar.walk_tar(memoryview(data), "fuzz"))
    except ShardkitError:
        tar.walk_span(memoryview(data), "fuzz")


def foreign_tar(data: bytes) -> None:
    """Tars of others, read through."""
    limits = ForeignLimits(member_bytes=UNFOLDED, members=1000)
    for member in read_foreign(io.BytesIO(data), "fuzz", limits):
        assert len(member.data) <= UNFOLDED


def foreign_index(data: bytes) -> None:
    """Tars of others, plain and compressed, indexed from a file."""
    path = scratch() / ("fuzz.tar.zst" if data[:4] == zstandard.FRAME_HEADER else "fuzz.tar")
    path.write_bytes(data)
    index_tar(open_store(scratch()), path.name, len(data), _facts, ForeignLimits(members=1000))


def index_head(data: bytes) -> None:
    """The head of an index."""
    framed = INDEX_MAGIC + len(data).to_bytes(4, "little") + data
    decode_head(framed, blake3_128(framed).hex(), "fuzz")


def index_page(data: bytes) -> None:
    """A page, the table over it, and every sample's row."""
    head = tiny().head
    ref = msgspec.structs.replace(head.pages[0], page_bytes=len(data), digest=blake3_128(data))
    page = decode_page(data, ref, "fuzz")
    table = Table(msgspec.structs.replace(head, pages=(ref,)), page, 0)
    for row in range(page.samples):
        span = memoryview(bytes(min(int(table.sizes[row]), UNFOLDED)))
        table.key(row), table.members(row), table.views(row, span)


def whole_index(data: bytes) -> None:
    """A whole index as a reader finds it: head and pages, with the digests that a forged manifest would name."""
    entry = _entry_like(data)
    head_bytes = min(len(data), 12 + int.from_bytes(data[8:12], "little"))
    forged = msgspec.structs.replace(
        entry,
        index=msgspec.structs.replace(entry.index, bytes=len(data), digest=blake3.blake3(data).hexdigest()),
        head_bytes=head_bytes,
        head_digest=blake3_128(data[:head_bytes]).hex(),
    )
    path = scratch() / index_path(forged.index.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        reader = IndexReader(open_store(scratch()), forged)
        Table(reader.head, reader.whole(), 0)
        for page in reader.pages():
            assert isinstance(page, IndexPage)
    finally:
        path.unlink()


def _entry_like(data: bytes) -> ShardEntry:
    """A manifest's entry that says what the head says, as a forged one would."""
    entry = tiny().dataset.manifest.shards[0]
    try:
        said = msgspec.msgpack.decode(data[12 : 12 + int.from_bytes(data[8:12], "little")], type=dict[str, Any])
        names = ("samples", "block_samples", "tar_bytes", "codec")
        fields = msgspec.to_builtins(entry) | {name: said[name] for name in names}
        return msgspec.convert(fields, ShardEntry)
    except (*UNREADABLE, KeyError):
        return entry


def version(data: bytes) -> None:
    """The JSON of a manifest, sealed as it should be, and its file as it lies."""
    try:
        manifest.decode_version(data, blake3.blake3(data).hexdigest(), "fuzz")
    except ShardkitError:
        manifest.decode_version(manifest.seal(data), blake3.blake3(data).hexdigest(), "fuzz", len(data))


def pointer(data: bytes) -> None:
    """manifest.json."""
    found = manifest.decode_pointer(data, "fuzz")
    assert manifest.encode_pointer(found) == data


def columns(data: bytes) -> None:
    """Columns of a version: omissions, splits, reasons."""
    try:
        manifest.decode_omitted(data, "fuzz")
    except ShardkitError:
        try:
            manifest.decode_split(data, "fuzz")
        except ShardkitError:
            list(reasons.decode_reasons(data, "fuzz").all())


def dead_letters(data: bytes) -> None:
    """Lines of dead letters, folded as they should be, and as they lie."""
    try:
        manifest.decode_dead_letters(data, "fuzz", UNFOLDED)
    except ShardkitError:
        manifest.decode_dead_letters(_folded(data), "fuzz", UNFOLDED)


def zstd(data: bytes) -> None:
    """Compressed frames."""
    raw = manifest.decompress(data, UNFOLDED, "fuzz")
    assert len(raw) <= UNFOLDED and manifest.decompress_block(data, len(raw), "fuzz") == raw


def record(data: bytes) -> None:
    """KEY.json."""
    decode_sample(data)


def where(data: bytes) -> None:
    """A filter's text; what it understands it writes in a form that it understands the same."""
    text = str(parse_where(data.decode("utf-8", "replace")))
    assert str(parse_where(text)) == text


def reading_state(data: bytes) -> None:
    """A state of a dataset, a mixture, or of packs, given to loaders of each; what they take they give again."""
    try:
        state: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(state, dict | list):
        return
    failed = 0
    for open_one in (_plain, _mixed, _packed):
        loader = open_one()
        try:
            loader.load_state_dict(state)
        except DECLARED:
            failed += 1
            continue
        again = loader.state_dict()
        assert json.loads(json.dumps(again)) == again
    if failed == 3:
        raise ShardkitError("none of them")


class Made(NamedTuple):
    """Tiny datasets, made once, and what lies in one of them."""

    dataset: Dataset
    mixture: Mixture
    folder: Path
    head: IndexHead


@lru_cache
def scratch() -> Path:
    """A folder in memory for this process, gone when it ends."""
    memory = Path("/dev/shm")
    holder = tempfile.TemporaryDirectory(prefix="shardkit-fuzz-", dir=memory if memory.is_dir() else None)
    _holders.append(holder)
    return Path(holder.name)


_holders: list[tempfile.TemporaryDirectory[str]] = []


@lru_cache
def tiny() -> Made:
    """Two datasets of a few samples."""
    made: list[Tiny] = []
    for number, codec in enumerate(("tar", "tar.zst")):
        shape = Shape((7, 2), 4, {0: (1,)}, codec)  # type: ignore[arg-type]
        made.append(make_tiny(scratch() / str(number), shape, first=100 * number))
    dataset = made[0].dataset
    mixture = open_dataset([one.dataset.url for one in made])
    assert isinstance(mixture, Mixture)
    head = IndexReader(dataset.store, dataset.manifest.shards[0]).head
    return Made(dataset, mixture, scratch() / "0", head)


def _plain() -> Any:
    return open_loader(tiny().dataset, batch_size=2)


def _mixed() -> Any:
    return open_loader(tiny().mixture, batch_size=2)


def _packed() -> Any:
    return open_loader(tiny().dataset, pack=Pack(tokens=10, lanes=2), cost=lambda item: Cost(tokens=1))


def _states() -> list[bytes]:
    packed = _packed()
    next(iter(packed))
    mixed = open_loader(tiny().mixture, batch_size=2, where="category=a", mix=Mix(weights=(2, 1), exhausted="stop"))
    states = [_plain().state_dict(), _mixed().state_dict(), mixed.state_dict(), packed.state_dict()]
    return [json.dumps(state).encode() for state in [*states, [packed.state_dict()] * 2]]


def _shard() -> bytes:
    return (tiny().folder / shard_path(tiny().dataset.manifest.shards[0])).read_bytes()


def _index() -> bytes:
    return (tiny().folder / index_path(tiny().dataset.manifest.shards[0].index.digest)).read_bytes()


def _head_bytes() -> int:
    return tiny().dataset.manifest.shards[0].head_bytes


def _version_file() -> bytes:
    return (tiny().folder / version_path(tiny().dataset.version)).read_bytes()


def _tars() -> list[bytes]:
    plain = tar_of([("a.txt", b"x" * 600), ("a.json", b"{}"), ("b/c.txt", b"y")])
    return [plain, _shard(), *(hostile.data for hostile in hostile_corpus(scratch()) if len(hostile.data) < 1 << 16)]


def _frames() -> list[bytes]:
    return [_folded(b"x" * 5000), _folded(_shard()), _folded(b""), _folded(b"a") + _folded(b"b")]


def _letters() -> list[bytes]:
    letter = canonical(DeadLetter(source="s", position="x:3", reason="not-json", detail="é", retry={"row": 3}))
    return [letter + b"\n" + letter + b"\n", manifest.encode_dead_letters([])]


def _columns() -> list[bytes]:
    rows = np.zeros(2, reasons.OMISSION)
    rows["ordinal"], rows["reason"] = (1, 5), (2, 1)
    return [
        manifest.encode_omitted({0: [1, 5], 3: [0]}),
        manifest.encode_split({0: ["train", "test"], 1: ["train"]}),
        reasons.encode_reasons({3: rows}, ["gsm8k"]),
    ]


def _records() -> list[bytes]:
    return [bytes(item.members["json"]) for item in tiny().dataset]


def _folded(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True).compress(data)


def _facts(name: str, members: dict[str, bytes | None]) -> Facts:
    return Facts(0, 0, 0, 0, 0, "s", "", "", "")


TARGETS: dict[str, Target] = {
    "strict-tar": Target(strict_tar, lambda: [_shard(), _shard()[: tiny().head.pages[0].tar_bytes]]),
    "foreign-tar": Target(foreign_tar, _tars),
    "foreign-index": Target(foreign_index, lambda: [*_tars(), *(_folded(one) for one in _tars()[:2])]),
    "index-head": Target(index_head, lambda: [_index()[12 : _head_bytes()]]),
    "index-page": Target(
        index_page, lambda: [_index()[_head_bytes() : _head_bytes() + tiny().head.pages[0].page_bytes]]
    ),
    "index": Target(whole_index, lambda: [_index()]),
    "manifest": Target(version, lambda: [canonical(tiny().dataset.manifest), _version_file()]),
    "pointer": Target(pointer, lambda: [(tiny().folder / "manifest.json").read_bytes()]),
    "columns": Target(columns, _columns),
    "dead-letters": Target(dead_letters, _letters),
    "zstd": Target(zstd, _frames),
    "record": Target(record, _records),
    "where": Target(where, lambda: [b'category=a|"b,c",images>=2', b"modality~image,licence!=x", b"audio_ms<30000"]),
    "state": Target(reading_state, _states),
    **{name: Target(*target) for name, target in ROW_TARGETS.items()},
}
