"""The version over tars that others made: which samples it leaves out, totals, the manifest.

Here: making it from the tars' entries and their indexes.
Elsewhere: indexing and publishing (foreign.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import blake3
import numpy as np
from numpy.typing import NDArray

from shardkit.errors import SpecError
from shardkit.read.tar_set import Wanted
from shardkit.store.index import IndexHead, IndexPage, IndexReader
from shardkit.store.layout import (
    LaneRecord,
    LaneTotals,
    Manifest,
    PlanRecord,
    ShardEntry,
    SourceRecord,
    Sums,
    Totals,
    canonical,
)
from shardkit.store.publish import publish_omitted
from shardkit.store.tar_index import BLOCK_SAMPLES, LANE
from shardkit.store.urls import LocalStore

KIND = "tars"
REASON = "missing-member"


def make_version(folder: Path, name: str, entries: Sequence[ShardEntry], wanted: Wanted) -> Manifest:
    """The manifest of these tars in this order; samples without a wanted member are omitted and counted.

    Raises SpecError where no sample is left.
    """
    omitted, taken = _incomplete(folder, entries, wanted) if wanted else ({}, _Tally())
    for entry in entries:
        taken.add(entry.modalities, entry.sums)
    stored, gone = sum(entry.samples for entry in entries), sum(len(ordinals) for ordinals in omitted.values())
    if stored == gone:
        lacking = f"; {gone} lack a member of --require {spell(wanted)}" if gone else ""
        raise SpecError(f"{name}: its {len(entries)} tars hold no sample{lacking}; check what is in them (`tar tf`)")
    plan = _plan(name, wanted)
    refused = {REASON: gone} if gone else {}
    return Manifest(
        name=name,
        block_samples=max((entry.block_samples for entry in entries if entry.samples), default=BLOCK_SAMPLES),
        plan=plan,
        plan_digest=blake3.blake3(canonical(plan)).hexdigest(),
        totals=Totals(
            samples=stored - gone,
            shards=len(entries),
            bytes=sum(entry.shard.bytes for entry in entries),
            omitted=gone,
            sums=Sums(**taken.sums),
            by_source={name: stored - gone},
            by_modality={word: count for word, count in sorted(taken.modalities.items()) if count},
        ),
        lanes={LANE: LaneTotals(rows=stored, samples=stored - gone, refused=refused)},
        shards=tuple(entries),
        columns=(publish_omitted(folder, omitted),) if omitted else (),
    )


def spell(wanted: Wanted) -> str:
    """Wanted members as the user writes them."""
    return ",".join("|".join(group) for group in wanted)


def _plan(name: str, wanted: Wanted) -> PlanRecord:
    config = {"require": spell(wanted)} if wanted else {}
    source = SourceRecord(name=name, kind=KIND, config=config, revision="", toolchain={})
    lane = LaneRecord(name=LANE, source=name, partition=0, partitions=1)
    return PlanRecord(name=name, seed=0, duplicates="keep", limits={}, sources=(source,), lanes=(lane,))


class _Tally:
    """Sums over samples, from which omitted ones are taken."""

    def __init__(self) -> None:
        self.modalities: dict[str, int] = {}
        self.sums = dict.fromkeys(Sums.__struct_fields__, 0)

    def add(self, modalities: dict[str, int], sums: Sums) -> None:
        for word, count in modalities.items():
            self.modalities[word] = self.modalities.get(word, 0) + count
        for name in self.sums:
            self.sums[name] += int(getattr(sums, name))

    def take_out(self, page: IndexPage, head: IndexHead, rows: NDArray[np.int64]) -> None:
        for name in self.sums:
            self.sums[name] -= int(page.column(name)[rows].sum(dtype=np.uint64))
        for at in page.column("modality_sets")[rows].tolist():
            word = head.modality_sets[at]
            self.modalities[word] = self.modalities.get(word, 0) - 1


def _incomplete(folder: Path, entries: Sequence[ShardEntry], wanted: Wanted) -> tuple[dict[int, list[int]], _Tally]:
    """Ordinals by shard of samples that lack a wanted member, and a tally with them taken out."""
    store = LocalStore(folder)
    omitted: dict[int, list[int]] = {}
    tally = _Tally()
    for shard, entry in enumerate(entries):
        reader = IndexReader(store, entry)
        page = reader.whole()
        rows = np.flatnonzero(~_complete(page, reader.head, wanted))
        if rows.size:
            omitted[shard] = rows.tolist()
            tally.take_out(page, reader.head, rows)
    return omitted, tally


def _complete(page: IndexPage, head: IndexHead, wanted: Wanted) -> NDArray[np.bool_]:
    samples = np.repeat(np.arange(page.samples), page.column("member_counts"))
    names = page.column("member_names")
    complete = np.ones(page.samples, dtype=np.bool_)
    for group in wanted:
        numbers = [at for at, name in enumerate(head.member_names) if name in group]
        has = np.zeros(page.samples, dtype=np.bool_)
        has[samples[np.isin(names, numbers)]] = True
        complete &= has
    return complete
