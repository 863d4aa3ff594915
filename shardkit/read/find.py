"""Finding a sample by its key, in a dataset's indexes.

Here: indexes read ahead, the keys of a page, where the sample with a key lies.
Elsewhere: reading it (fetch.py), one member of it (member.py), showing it (report.show).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from shardkit.errors import SpecError
from shardkit.store.index import IndexHead, IndexPage, IndexReader

if TYPE_CHECKING:
    from shardkit.read.dataset import Dataset

SHARDS_AHEAD = 8
"""Indexes read at once: behind a network each costs a round trip."""

MOST_NAMED = 5
"""Keys that an error shows where several fit."""


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


def find_place(dataset: Dataset, key: str, *, shortened: bool) -> tuple[int, int]:
    """Shard and stored ordinal of the live sample with this key, or, `shortened`, of the only one that begins so.

    The first index that holds the whole key ends the search. Raises SpecError where no key or several fit,
    ShardDamaged, StorageFailed.
    """
    begins: dict[str, tuple[int, int]] = {}
    for shard, _, page in read_indexes(dataset, range(len(dataset.manifest.shards))):
        left_out = set(dataset.omitted(shard))
        for ordinal, found in enumerate(keys_of(page)):
            if not found.startswith(key) or ordinal in left_out:
                continue
            if found == key:
                return shard, ordinal
            if shortened and len(begins) <= MOST_NAMED:
                begins.setdefault(found, (shard, ordinal))
    if len(begins) == 1 and key:
        return next(iter(begins.values()))
    if not begins:
        raise SpecError(f"{dataset.url} has no sample with key {key}; `shardkit ls` lists the keys")
    named = ", ".join([*begins][:MOST_NAMED]) + ", …" * (len(begins) > MOST_NAMED)
    raise SpecError(f"several keys begin with {key!r} ({named}); give more of the key")
