"""Our side of the benchmarks: the shard writer, the full publish, the loader.

Here: writing and reading a workload with shardkit, all checks on.
Elsewhere: peers (peers.py), rounds and ratios (measure.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shardkit import open_dataset, open_loader
from shardkit.records.row import Prepared
from shardkit.spec import Limits
from shardkit.store.layout import LaneTotals, Manifest, PlanRecord, ShardEntry, Sums, Totals
from shardkit.store.publish import lock, publish_shard, publish_version
from shardkit.store.shard import ShardWriter, StagedShard
from tools.bench.workloads import Workload

BATCH = 64
BLOCK = Limits().block_samples


def write(workload: Workload, folder: Path) -> None:
    """Shards and indexes with all digests, neither forced to the disk nor read back, as the peers do."""
    for _ in staged_shards(workload.prepared, folder, durable=False):
        pass


def publish(workload: Workload, folder: Path) -> None:
    """The full publish: shards forced to the disk, read back, linked; then the version and the pointer."""
    with lock(folder):
        entries = []
        for staged in staged_shards(workload.prepared, folder, durable=True):
            publish_shard(folder, staged)
            entries.append(staged.entry)
        publish_version(folder, manifest_of(entries))


def make(workload: Workload, folder: Path) -> None:
    """A dataset to read: the same bytes, in less time."""
    with lock(folder):
        entries = []
        for staged in staged_shards(workload.prepared, folder, durable=False):
            publish_shard(folder, staged)
            entries.append(staged.entry)
        publish_version(folder, manifest_of(entries))


def read(folder: Path) -> int:
    """One shuffled epoch in the caller's thread, every digest checked; bytes of all members seen."""
    seen = 0
    for batch in open_loader(open_dataset(folder), batch_size=BATCH, tail="split"):
        for item in batch:
            for data in item.members.values():
                seen += len(data)
    return seen


def staged_shards(samples: Iterable[Prepared], folder: Path, *, durable: bool) -> Iterable[StagedShard]:
    """The samples as shards of the default size."""
    limits, writer, ordinal = Limits(), None, 0
    for prepared in samples:
        if writer is None:
            writer = ShardWriter(
                folder, source="bench", lane="bench-0", ordinal=ordinal, codec="tar", block_samples=BLOCK
            )
        writer.add(prepared)
        if writer.tar_bytes >= limits.shard_bytes or writer.samples >= limits.shard_samples:
            yield writer.seal(durable=durable)
            writer, ordinal = None, ordinal + 1
    if writer is not None:
        yield writer.seal(durable=durable)


def manifest_of(entries: list[ShardEntry]) -> Manifest:
    """A manifest that names the shards; its plan is empty."""
    by_modality: dict[str, int] = {}
    for entry in entries:
        for name, count in entry.modalities.items():
            by_modality[name] = by_modality.get(name, 0) + count
    sums = {name: sum(getattr(entry.sums, name) for entry in entries) for name in Sums.__struct_fields__}
    samples = sum(entry.samples for entry in entries)
    return Manifest(
        name="bench",
        block_samples=BLOCK,
        plan=PlanRecord(name="bench", seed=0, duplicates="keep", limits={}, sources=(), lanes=()),
        plan_digest="0" * 64,
        totals=Totals(
            samples=samples,
            shards=len(entries),
            bytes=sum(entry.shard.bytes for entry in entries),
            sums=Sums(**sums),
            by_source={"bench": samples},
            by_modality=by_modality,
        ),
        lanes={"bench-0": LaneTotals(rows=samples, samples=samples)},
        shards=tuple(entries),
    )
