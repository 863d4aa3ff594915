"""Our side of the benchmarks: the shard writer, the full publish, the loader.

Here: writing and reading a workload with shardkit, all checks on.
Elsewhere: peers (peers.py), rounds and ratios (measure.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from operator import add
from pathlib import Path

from blake3 import blake3
from xxhash import xxh3_128_hexdigest

from shardkit import decode_images, open_dataset, open_loader
from shardkit.records.sample import decode_sample
from shardkit.spec import Limits
from shardkit.store import tar
from shardkit.store.index import facts_of
from shardkit.store.layout import LaneTotals, Manifest, PlanRecord, ShardEntry, Sums, Totals
from shardkit.store.publish import lock, publish_shard, publish_version
from shardkit.store.shard import ShardWriter, StagedShard
from shardkit.store.spans import Encoded, EncodedColumns
from tools.bench.workloads import IMAGE_MEMBER, Workload

BATCH = 64
TOGETHER_BYTES = 1 << 20
"""Samples are encoded so many bytes at a time: what was hashed is still in the processor's caches when it is copied."""
WORKERS = 2
LIMITS = Limits()
BLOCK = LIMITS.block_samples


def write_bytes(workload: Workload, folder: Path) -> None:
    """The shard writer from bytes, as peers take them: all digests, headers, the index; no fsync, no reading back."""
    for _ in staged_shards(workload, folder, durable=False):
        pass


def write_records(workload: Workload, folder: Path) -> None:
    """The same from records, as a build has them: keys and canonical JSON as well."""
    left = iter(workload.prepared)
    for _ in _sealed(lambda writer: writer.encode(left), folder, durable=False):
        pass


def publish(workload: Workload, folder: Path) -> None:
    """The full publish: shards forced to the disk, read back, linked; then the version and the pointer."""
    _publish(workload, folder, durable=True)


def make(workload: Workload, folder: Path) -> None:
    """A dataset to read: the same bytes, in less time."""
    _publish(workload, folder, durable=False)


def read(folder: Path) -> tuple[int, int]:
    """One shuffled epoch in the caller's thread, every digest checked: samples, bytes of all members.

    Counted from opening the dataset on, the indexes included. Every member is taken as `bytes`, as of all peers:
    who hands out views of a mapped file has read nothing yet.
    """
    samples = seen = 0
    for batch in open_loader(open_dataset(folder), batch_size=BATCH, tail="split"):
        for item in batch:
            samples += 1
            for data in item.members.values():
                seen += len(bytes(data))
    return samples, seen


def decode(folder: Path) -> tuple[int, int]:
    """One shuffled epoch, images decoded to uint8 by two threads, every digest checked: images, bytes of pixels."""
    loader = open_loader(
        open_dataset(folder), batch_size=BATCH, tail="split", num_workers=WORKERS, decode=decode_images
    )
    images = seen = 0
    for batch in loader:
        for decoded in batch:
            for pixels in decoded.values():
                images += 1
                seen += pixels.nbytes
    return images, seen


def staged_shards(workload: Workload, folder: Path, *, durable: bool) -> Iterator[StagedShard]:
    """The workload as shards of the default size."""
    encode = _encoder(workload)
    writer = None
    ordinals = count()
    together = -(-TOGETHER_BYTES * len(workload.raw) // workload.size_bytes)
    for start in range(0, len(workload.raw), together):
        samples = encode(workload.raw[start : start + together])
        at = 0
        while at < len(samples.keys):
            writer = writer or _writer(folder, next(ordinals), durable=durable)
            at = writer.fill_columns(samples, begin=at, max_bytes=LIMITS.shard_bytes, max_samples=LIMITS.shard_samples)
            if writer.samples >= LIMITS.shard_samples or writer.tar_bytes >= LIMITS.shard_bytes:
                yield writer.seal(durable=durable)
                writer = None
    if writer is not None:
        yield writer.seal(durable=durable)


def _encoder(workload: Workload) -> Callable[[Sequence[tuple[bytes, bytes]]], EncodedColumns]:
    """Samples as columns from the bytes of records and images.

    The key is the XXH3-128 of the record and of the image's digest instead of that of the record's parts. What the
    index says of a sample besides its place is the same for all.
    """
    about = facts_of(decode_sample(workload.raw[0][0]))
    hasher = blake3()
    reset, update, digest = hasher.reset, hasher.update, hasher.digest

    def digests(data: Iterable[bytes]) -> list[bytes]:
        return [(reset(), update(one), digest()[:16])[2] for one in data]

    def pictured(raw: Sequence[tuple[bytes, bytes]]) -> EncodedColumns:
        hashes = digests(chain.from_iterable(raw))
        keys = list(map(xxh3_128_hexdigest, map(add, (record for record, _ in raw), hashes[1::2])))
        names = [tar.JSON, IMAGE_MEMBER] * len(raw)
        return EncodedColumns(keys, [about] * len(raw), [2] * len(raw), names, [*chain.from_iterable(raw)], hashes)

    def plain(raw: Sequence[tuple[bytes, bytes]]) -> EncodedColumns:
        records = [record for record, _ in raw]
        keys = list(map(xxh3_128_hexdigest, records))
        ones, names = [1] * len(raw), [tar.JSON] * len(raw)
        return EncodedColumns(keys, [about] * len(raw), ones, names, records, digests(records))

    return pictured if workload.raw[0][1] else plain


def _publish(workload: Workload, folder: Path, *, durable: bool) -> None:
    with lock(folder):
        entries = []
        for staged in staged_shards(workload, folder, durable=durable):
            publish_shard(folder, staged)
            entries.append(staged.entry)
        publish_version(folder, manifest_of(entries))


def _sealed(
    samples: Callable[[ShardWriter], Iterator[Encoded]], folder: Path, *, durable: bool
) -> Iterator[StagedShard]:
    for ordinal in count():
        writer = _writer(folder, ordinal, durable=durable)
        if not writer.fill(samples(writer), max_bytes=LIMITS.shard_bytes, max_samples=LIMITS.shard_samples):
            return writer.abandon()
        yield writer.seal(durable=durable)


def _writer(folder: Path, ordinal: int, *, durable: bool) -> ShardWriter:
    writer = ShardWriter(folder, source="bench", lane="bench-0", ordinal=ordinal, codec="tar", block_samples=BLOCK)
    if not durable:
        writer.write_late()
    return writer


def manifest_of(entries: list[ShardEntry]) -> Manifest:
    """A manifest that names the shards; its plan is empty."""
    by_modality: dict[str, int] = {}
    for entry in entries:
        for name, number in entry.modalities.items():
            by_modality[name] = by_modality.get(name, 0) + number
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
