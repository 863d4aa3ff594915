"""Views: the samples of a dataset that a filter takes, one bit each, found from the index alone.

Here: resolving a filter, the bitmaps with rank and select, their digest (specs/FORMAT.md, Views).
Elsewhere: the filter's language (where.py), the order over a view (order.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeAlias

import blake3
import numpy as np
from numpy.typing import NDArray

from shardkit.errors import SpecError
from shardkit.read.order import I64, LiveSamples
from shardkit.read.where import SPLIT, Bools, Clause, FactColumns, Filter, accepted, decide_head, decide_shard
from shardkit.store.index import IndexReader
from shardkit.store.manifest import SplitColumn, read_split

if TYPE_CHECKING:
    from shardkit.read.dataset import Dataset

U8: TypeAlias = NDArray[np.uint8]
U64: TypeAlias = NDArray[np.uint64]

LABEL = b"shardkit view 1\0"
GROUP_WORDS = 8
"""Words of 64 bits between two counts kept: 12.5% more than the bits."""

LOCAL_THREADS = 2
REMOTE_THREADS = 16


class ViewedSamples(LiveSamples):
    """Live samples of which a bitmap says the ordinals: for shards in which some are taken and some are not.

    `masks` gives, for every shard in turn, True (all), False (none), or an array of stored samples.
    Takes one bit a sample of those shards, and 40 bytes a shard.
    """

    def __init__(self, stored: Sequence[int], block: int, masks: Iterator[Bools | bool]) -> None:
        counts = np.zeros(len(stored), dtype=np.int64)
        starts = np.full(len(stored), -1, dtype=np.int64)
        parts: list[U64] = []
        digest = blake3.blake3(LABEL)
        at = 0
        for shard, (samples, mask) in enumerate(zip(stored, masks, strict=True)):
            bits = pack_bits(mask, samples)
            digest.update(samples.to_bytes(8, "little") + bits[: -(-samples // 8)].tobytes())
            counts[shard] = samples if mask is True else int(np.bitwise_count(bits).sum())
            if 0 < counts[shard] < samples:
                starts[shard] = at
                parts.append(bits.view(np.uint64))
                at += len(parts[-1])
        self.digest: str = digest.hexdigest()
        """BLAKE3-256 of the view: what the reading state holds."""
        self._words: U64 = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        self._starts = starts
        ones = np.bitwise_count(self._words).reshape(-1, GROUP_WORDS).sum(axis=1, dtype=np.int64)
        self._before: I64 = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(ones)))
        self.count(counts, block)

    def ordinals(self, shards: I64, live: I64) -> I64:
        """Stored ordinals of the live-th live samples of shards."""
        starts = self._starts[shards]
        (mixed,) = np.nonzero(starts >= 0)
        if not mixed.size:
            return live
        found = live.copy()
        first = starts[mixed]
        found[mixed] = self._select(self._before[first // GROUP_WORDS] + live[mixed]) - 64 * first
        return found

    def _select(self, ones: I64) -> I64:
        """The bit of the n-th one (from 0), over all words."""
        group = np.searchsorted(self._before, ones, side="right") - 1
        left = (ones - self._before[group]).astype(np.int64)
        words = self._words.reshape(-1, GROUP_WORDS)[group]
        word, left = _skip(np.bitwise_count(words), left)
        chosen = words[np.arange(len(words)), word]
        octets = chosen.astype("<u8").view(np.uint8).reshape(-1, 8)
        octet, left = _skip(np.bitwise_count(octets), left)
        bit = _SELECT[octets[np.arange(len(octets)), octet], left]
        return (group * GROUP_WORDS + word) * 64 + octet * 8 + bit

    def taken(self, shard: int) -> I64:
        """The stored ordinals of a shard's live samples, ascending."""
        live = np.arange(int(self.live[shard]))
        return self.ordinals(np.full(len(live), shard), live)


def resolve_view(dataset: Dataset, filter_: Filter) -> ViewedSamples:
    """The live samples that a filter takes, read from the manifest where it is enough, else from heads and pages.

    Every index is read at most once; over a network many at a time. Raises SpecError (a filter by split on a dataset
    without one), ShardDamaged, StorageFailed.
    """
    split = read_split(dataset.store, dataset.manifest) if filter_.needs_split else None
    if filter_.needs_split and split is None:
        raise SpecError(
            f"{dataset.url}: the filter asks for the split, and this version has no column {SPLIT!r}; "
            f"make one, or leave the clause out"
        )
    resolver = _Resolver(dataset, filter_, split)
    stored = [entry.samples for entry in dataset.manifest.shards]
    threads = REMOTE_THREADS if dataset.store.is_remote else LOCAL_THREADS
    with ThreadPoolExecutor(threads, thread_name_prefix="shardkit-view") as pool:
        masks = _bounded_map(pool, resolver, len(stored), 4 * threads)
        return ViewedSamples(stored, dataset.manifest.block_samples, masks)


class _Resolver:
    """Which samples of a shard a filter takes."""

    def __init__(self, dataset: Dataset, filter_: Filter, split: SplitColumn | None) -> None:
        self._dataset, self._filter, self._split = dataset, filter_, split

    def __call__(self, shard: int) -> Bools | bool:
        found = self._taken(shard)
        omitted = self._dataset.omitted(shard)
        if not omitted or found is False:
            return found
        mask: Bools = np.ones(self._dataset.manifest.shards[shard].samples, dtype=np.bool_) if found is True else found
        mask[np.array(omitted)] = False
        return mask

    def _taken(self, shard: int) -> Bools | bool:
        entry = self._dataset.manifest.shards[shard]
        masks: list[Bools] = []
        undecided: list[Clause] = []
        for clause in self._filter.clauses:
            if clause.field == SPLIT:
                masks.append(self._split_mask(clause, shard))
                continue
            decided = decide_shard(clause, entry)
            if decided is False:
                return False
            if decided is None:
                undecided.append(clause)
        if undecided and not all(mask.any() for mask in masks):
            return False
        if undecided:
            rows = self._rows(shard, undecided)
            if rows is False:
                return False
            masks += rows
        if not masks:
            return True
        return masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)

    def _rows(self, shard: int, clauses: Sequence[Clause]) -> list[Bools] | Literal[False]:
        """Masks of clauses that the manifest does not decide: by the head's dictionaries, else by the pages."""
        entry = self._dataset.manifest.shards[shard]
        tables = self._dataset.tables
        if tables.whole:
            facts = tables.find(shard, 0).facts
            return [clause.accepts_rows(facts) for clause in clauses]
        reader = IndexReader(self._dataset.store, entry)
        undecided = []
        for clause in clauses:
            decided = decide_head(clause, reader.head)
            if decided is False:
                return False
            if decided is None:
                undecided.append(clause)
        if not undecided:
            return []
        facts = FactColumns(reader.head, reader.whole())
        return [clause.accepts_rows(facts) for clause in undecided]

    def _split_mask(self, clause: Clause, shard: int) -> Bools:
        assert self._split is not None, "checked when the view is resolved"
        samples = self._dataset.manifest.shards[shard].samples
        words, positions = self._split.of_shard(shard, samples)
        return accepted(clause, words, positions)


def pack_bits(mask: Bools | bool, samples: int) -> U8:
    """A mask as bits, the lowest first, with zeros up to a whole group of words."""
    room = -(-samples // (64 * GROUP_WORDS)) * 8 * GROUP_WORDS
    bits = np.zeros(room, dtype=np.uint8)
    if mask is False:
        return bits
    rows = np.ones(samples, dtype=np.bool_) if mask is True else mask
    packed = np.packbits(rows, bitorder="little")
    bits[: len(packed)] = packed
    return bits


def join_digests(digests: Sequence[str]) -> str:
    """The digest of the views of several datasets; of one it is its own."""
    return digests[0] if len(digests) == 1 else blake3.blake3("\n".join(digests).encode()).hexdigest()


def _skip(counts: U8, left: I64) -> tuple[I64, I64]:
    """For rows of counts: the first column whose running sum is above `left`, and what of `left` lies within it."""
    sums = np.cumsum(counts, axis=1, dtype=np.int64)
    column = (sums <= left[:, None]).sum(axis=1)
    rows = np.arange(len(left))
    return column, left - (sums[rows, column] - counts[rows, column])


def _bounded_map(pool: ThreadPoolExecutor, work: _Resolver, count: int, most: int) -> Iterator[Bools | bool]:
    """`work` of 0 … count-1 in order, at most so many under way or waiting."""
    waiting = [pool.submit(work, shard) for shard in range(min(most, count))]
    for shard in range(count):
        found = waiting.pop(0).result()
        if shard + most < count:
            waiting.append(pool.submit(work, shard + most))
        yield found


def _select_table() -> U8:
    """For every octet and n: the place of its n-th one."""
    table = np.zeros((256, 8), dtype=np.uint8)
    for octet in range(256):
        ones = [bit for bit in range(8) if octet >> bit & 1]
        table[octet, : len(ones)] = ones
    return table


_SELECT = _select_table()
