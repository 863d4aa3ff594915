"""The end of a build: from complete lanes to a published version.

Here: duplicates across shards, totals, the manifest, publishing it, removing what nothing names.
Elsewhere: finding duplicates (duplicates.py), the order on disk (store.publish), what may be removed (store.recovery).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from shardkit.build.duplicates import find_duplicates
from shardkit.build.phase import phase
from shardkit.build.plan import Plan
from shardkit.build.progress import Finishing, OnEvent, Warned
from shardkit.build.settle import Commits
from shardkit.errors import NoSamples
from shardkit.store import fs
from shardkit.store.index import IndexReader
from shardkit.store.layout import BUILD_FOLDER, LaneTotals, Manifest, ShardEntry, Sums, Totals
from shardkit.store.publish import publish_omitted, publish_version
from shardkit.store.recovery import plan_gc, run_gc
from shardkit.store.urls import ByteStore, open_store

Omitted = Mapping[int, Sequence[int]]


def finish(root: Path, plan: Plan, commits: Commits, on_event: OnEvent) -> tuple[str, Manifest]:
    """Publish the version that complete lanes make; (its digest, its manifest).

    Every step gives the same bytes when it is done again, so a build that is killed here ends the same.
    Raises NoSamples where no row at all became a sample, StorageFailed, ShardDamaged.
    """
    entries = shards_of(plan, commits)
    totals = {lane.name: commits[lane.name][-1].totals for lane in plan.record.lanes}
    if not entries:
        raise NoSamples(f"{root}: no row became a sample{_refusals(totals)}; mend the sources or the spec")
    on_event(Finishing(shards=len(entries), samples=sum(entry.samples for entry in entries)))
    _warn_of_empty_sources(plan, totals, on_event)
    with phase("finishing"):
        manifest = _manifest(root, plan, commits, totals)
        version = publish_version(root, manifest)
        tidy(root, plan)
    return version, manifest


def shards_of(plan: Plan, commits: Commits) -> tuple[ShardEntry, ...]:
    """The shards of all lanes, in the order of the plan, then of ordinals."""
    own = (commit for lane in plan.record.lanes for commit in commits[lane.name])
    return tuple(commit.shard for commit in own if commit.shard is not None)


def tidy(root: Path, plan: Plan) -> None:
    """Remove commits of lanes that an update left behind, and files that no commit and no version names.

    Under the lock, when the plan's version is published: what older versions name stays.
    """
    named = {lane.name for lane in plan.record.lanes}
    for lane in sorted((root / BUILD_FOLDER / "lanes").iterdir()):
        if lane.name not in named and lane.is_dir():
            fs.remove_tree(lane)
    garbage = plan_gc(root)
    if garbage.files:
        run_gc(root, garbage)


def _manifest(root: Path, plan: Plan, commits: Commits, totals: dict[str, LaneTotals]) -> Manifest:
    entries = shards_of(plan, commits)
    held_out = plan.record.held_out
    omitted: Omitted = {} if plan.record.duplicates == "keep" else _duplicates(root, entries, held_out)
    own = (commit for lane in plan.record.lanes for commit in commits[lane.name])
    return Manifest(
        name=plan.record.name,
        parent=plan.parent,
        block_samples=int(plan.record.limits["block_samples"]),
        plan=plan.record,
        plan_digest=plan.digest,
        totals=live_totals(open_store(root), entries, omitted),
        lanes=totals,
        shards=entries,
        columns=(publish_omitted(root, omitted),) if omitted else (),
        dead_letters=tuple(commit.dead_letters for commit in own if commit.dead_letters is not None),
    )


def _duplicates(root: Path, entries: Sequence[ShardEntry], held_out: Set[str]) -> Omitted:
    """Samples whose key came earlier; those of sources that are held out count as the earliest, lest a copy of one be
    what stays and is trained on.
    """
    if len(entries) == 1:  # within a shard there are none
        return {}
    store = open_store(root)
    order = sorted(range(len(entries)), key=lambda at: entries[at].source not in held_out)
    keys = (b"".join(page.keys for page in IndexReader(store, entries[at]).pages()) for at in order)
    found = find_duplicates(keys, sum(entry.samples for entry in entries), root / BUILD_FOLDER)
    return {order[at]: ordinals for at, ordinals in sorted(found.items(), key=lambda pair: order[pair[0]])}


def live_totals(store: ByteStore, entries: Sequence[ShardEntry], omitted: Omitted) -> Totals:
    """Counts of live samples: those of the shards less the omitted ones; bytes are those of the shards' files.

    Raises ShardDamaged, StorageFailed.
    """
    tally = Tally()
    for entry in entries:
        tally.add(entry.source, entry.modalities, entry.sums, 1)
    for position, ordinals in omitted.items():
        entry = entries[position]
        for modalities, sums in _facts(IndexReader(store, entry), ordinals):
            tally.add(entry.source, {modalities: 1}, sums, -1)
    return Totals(
        samples=sum(tally.by_source.values()),
        shards=len(entries),
        bytes=sum(entry.shard.bytes for entry in entries),
        omitted=sum(len(ordinals) for ordinals in omitted.values()),
        sums=Sums(**tally.sums),
        by_source=tally.by_source,
        by_modality={name: count for name, count in sorted(tally.by_modality.items()) if count},
        licences=tuple(sorted({licence for entry in entries for licence in entry.licences})),
    )


class Tally:
    """Sums over samples, from which omitted ones are taken again."""

    def __init__(self) -> None:
        self.by_source: dict[str, int] = {}
        self.by_modality: dict[str, int] = {}
        self.sums = dict.fromkeys(Sums.__struct_fields__, 0)

    def add(self, source: str, modalities: Mapping[str, int], sums: Sums, sign: int) -> None:
        """Count samples in (sign 1) or out (-1)."""
        self.by_source[source] = self.by_source.get(source, 0) + sign * sum(modalities.values())
        for name, count in modalities.items():
            self.by_modality[name] = self.by_modality.get(name, 0) + sign * count
        for name in self.sums:
            self.sums[name] += sign * int(getattr(sums, name))


def _facts(index: IndexReader, ordinals: Sequence[int]) -> Iterator[tuple[str, Sums]]:
    """(set of modalities, sums) of single samples."""
    wanted = np.asarray(ordinals)
    first = 0
    for page in index.pages():
        names = index.head.modality_sets
        for at in wanted[(wanted >= first) & (wanted < first + page.samples)] - first:
            sums = Sums(**{name: int(page.column(name)[at]) for name in Sums.__struct_fields__})
            yield names[int(page.column("modality_sets")[at])], sums
        first += page.samples


def _warn_of_empty_sources(plan: Plan, totals: dict[str, LaneTotals], on_event: OnEvent) -> None:
    for source in plan.record.sources:
        own = {lane.name: totals[lane.name] for lane in plan.record.lanes if lane.source == source.name}
        wanted = any(lane.quota != 0 for lane in plan.record.lanes if lane.source == source.name)
        if wanted and not any(lane.samples for lane in own.values()):
            on_event(Warned(message=f"source {source.name} gave no sample{_refusals(own)}"))


def _refusals(totals: Mapping[str, LaneTotals]) -> str:
    counts: dict[str, int] = {}
    for lane in totals.values():
        for reason, count in lane.refused.items():
            counts[reason] = counts.get(reason, 0) + count
    passed = sum(lane.filtered for lane in totals.values())
    told = ["refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))] if counts else []
    told += [f"passed over: {passed}"] if passed else []
    return f" ({'; '.join(told)})" if told else ""
