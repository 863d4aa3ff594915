"""One sample, found by its key from anywhere, as a person or a machine looks at it.

Here: finding the key in the indexes, the text of a sample, writing its members out.
Elsewhere: listing many (listing.py), reading it (read.dataset).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset
from shardkit.read.item import Item
from shardkit.read.shapes import record_to_show
from shardkit.records.sample import Sample
from shardkit.store.index import IndexHead, IndexPage, IndexReader

SHARDS_AHEAD = 8
"""Indexes read at once: behind a network each costs a round trip."""

MOST_NAMED = 5


def read_indexes(dataset: Dataset, shards: Iterable[int]) -> Iterator[tuple[int, IndexHead, IndexPage]]:
    """(number, head, all pages as one) of shards' indexes in order, read ahead. Raises ShardDamaged, StorageFailed."""
    pool = ThreadPoolExecutor(SHARDS_AHEAD, thread_name_prefix="shardkit-index")
    waiting: deque[Future[tuple[int, IndexHead, IndexPage]]] = deque()

    def read(number: int) -> tuple[int, IndexHead, IndexPage]:
        reader = IndexReader(dataset.store, dataset.manifest.shards[number])
        page = reader.whole()
        return number, reader.head, page

    try:
        for number in shards:
            waiting.append(pool.submit(read, number))
            if len(waiting) >= SHARDS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def keys_of(page: IndexPage) -> list[str]:
    """The samples' keys: 32 hex digits, or the names in tars that others made."""
    if page.names:
        starts = page.name_starts().tolist()
        return [page.names[start:end].decode("utf-8", "replace") for start, end in pairwise(starts)]
    whole = page.keys.hex()
    return [whole[at : at + 32] for at in range(0, len(whole), 32)]


def find_sample(dataset: Dataset, key: str) -> Item:
    """The live sample whose key is `key` or the only one that begins so; the first index that holds it ends the search.

    Raises SpecError where no key or several begin so, ShardDamaged, StorageFailed.
    """
    begins: dict[str, tuple[int, int]] = {}
    for shard, _, page in read_indexes(dataset, range(len(dataset.manifest.shards))):
        left_out = set(dataset.omitted(shard))
        for ordinal, found in enumerate(keys_of(page)):
            if not found.startswith(key) or ordinal in left_out:
                continue
            if found == key:
                return _read(dataset, shard, ordinal)
            if len(begins) <= MOST_NAMED:
                begins.setdefault(found, (shard, ordinal))
    if len(begins) == 1 and key:
        return _read(dataset, *next(iter(begins.values())))
    if not begins:
        raise SpecError(f"{dataset.url} has no sample with key {key}; `shardkit ls` lists the keys")
    named = ", ".join([*begins][:MOST_NAMED]) + ", …" * (len(begins) > MOST_NAMED)
    raise SpecError(f"several keys begin with {key!r} ({named}); give more of the key")


def as_json(item: Item) -> dict[str, Any]:
    """A sample as one object: key, where it lies, its record where it has one, its members' names and bytes."""
    return {
        "key": item.key,
        "shard": item.shard,
        "ordinal": item.ordinal,
        "record": msgspec.to_builtins(record_to_show(item)),
        "members": {name: len(data) for name, data in item.members.items()},
    }


def as_text(item: Item) -> str:
    """A sample as lines for a terminal: what it is, its messages, its members."""
    sample = record_to_show(item)
    about = [("key", item.key), ("shard", f"{item.shard}, sample {item.ordinal}"), ("id", sample.id)]
    about += [("source", sample.source), ("category", f"{sample.domain}/{sample.category}")]
    about += [("licence", sample.licence)] if sample.licence else []
    about += [(name, value) for name, value in sorted(sample.provenance.items())]
    width = max(len(name) for name, _ in about)
    lines = [f"{name:<{width}}  {value}" for name, value in about]
    lines += _turns(sample)
    lines += ["", *(f"{len(data):>12,} bytes  {name}" for name, data in item.members.items())]
    return "\n".join(lines)


def write_members(item: Item, folder: Path) -> list[Path]:
    """Write every member as KEY.NAME into a folder (made where it is missing); the paths. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = item.key.replace("/", "_")
    paths = []
    for name, data in item.members.items():
        path = folder / f"{stem}.{name}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def member(item: Item, name: str) -> bytes:
    """One member's bytes. Raises SpecError naming those that there are."""
    if name not in item.members:
        raise SpecError(f"sample {item.key} has no member {name!r}; it has {', '.join(item.members)}")
    return bytes(item.members[name])


def _turns(sample: Sample) -> list[str]:
    lines = []
    for message in sample.messages:
        lines += ["", f"[{message.role}]", message.content]
    if sample.preference is not None:
        lines += ["", "[chosen]", sample.preference.chosen, "", "[rejected]", sample.preference.rejected]
    return lines


def _read(dataset: Dataset, shard: int, ordinal: int) -> Item:
    return dataset.fetcher.read(dataset.fetcher.find_one(shard, ordinal))
