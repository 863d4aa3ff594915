"""A version that leaves samples out: the shards stay as they are, columns say which samples go and why.

Here: from what was found to the columns and totals of a version, and publishing it.
Elsewhere: what was found (dedup.py), the columns (store.manifest, store.reasons), the order on disk (store.publish).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from shardkit.build.finish import live_totals
from shardkit.read.dataset import Dataset
from shardkit.store.layout import ColumnRef, Manifest, StepRecord
from shardkit.store.manifest import OMITTED
from shardkit.store.publish import publish_omitted, publish_version
from shardkit.store.reasons import (
    CONTAMINATED,
    OMISSION,
    REASONS,
    WORDS,
    Omissions,
    encode_reasons,
    publish_reasons,
    read_reasons,
)


def publish_without(
    root: Path, dataset: Dataset, omissions: Mapping[int, Omissions], benchmarks: Sequence[str], step: StepRecord
) -> tuple[str, Manifest]:
    """Publish the version of `dataset` that leaves more samples out: (its digest, its manifest). Under the lock.

    `omissions`: position of a shard -> OMISSION rows, ordinals ascending, none of them left out before; `benchmarks`
    are what rows of contaminated ones refer to, `step` is what was done. What was left out before stays out, its
    reasons are kept. Without any omissions the version says only what was done.
    Raises ShardDamaged, StorageFailed.
    """
    manifest = dataset.manifest
    if not omissions:
        version = msgspec.structs.replace(manifest, parent=dataset.version, step=step)
        return publish_version(root, version), version
    before = {shard: dataset.omitted(shard) for shard in range(len(manifest.shards))}
    omitted = {shard: [*before[shard], *_ordinals(omissions, shard)] for shard in before}
    omitted = {shard: sorted(ordinals) for shard, ordinals in omitted.items() if ordinals}
    made = {
        OMITTED: publish_omitted(root, omitted),
        REASONS: publish_reasons(root, _merged(dataset, omissions, benchmarks)),
    }
    version = msgspec.structs.replace(
        manifest,
        parent=dataset.version,
        totals=live_totals(dataset.store, manifest.shards, omitted),
        columns=_columns(manifest, made),
        step=step,
    )
    return publish_version(root, version), version


def explain(dataset: Dataset, shard: int, ordinal: int) -> str:
    """Why this version leaves a sample out, for people: `near-duplicate (93.1%) of KEY`; empty where it does not say.

    Raises ShardDamaged, StorageFailed.
    """
    reasons = read_reasons(dataset.store, dataset.manifest)
    found = reasons.find(shard, ordinal) if reasons is not None else None
    if found is None:
        return ""
    if found.of is None:
        return f"{found.reason} by {found.benchmark}, row {found.row + 1}"
    table = dataset.tables.find(*found.of)
    key = table.key(found.of[1] - table.first)
    return f"{found.reason} of {key}" if found.similarity == 1 else f"{found.reason} ({found.similarity:.1%}) of {key}"


def count_reasons(dataset: Dataset) -> dict[str, int]:
    """How many samples a version leaves out for each reason that it gives. Raises ShardDamaged, StorageFailed."""
    reasons = read_reasons(dataset.store, dataset.manifest)
    counts = dict.fromkeys(WORDS, 0)
    if reasons is None:
        return {}
    for shard in reasons.shards:
        for number, count in enumerate(np.bincount(reasons.of_shard(shard)["reason"], minlength=len(WORDS)).tolist()):
            counts[WORDS[number]] += count
    return {word: count for word, count in counts.items() if count}


def _ordinals(omissions: Mapping[int, Omissions], shard: int) -> list[int]:
    return omissions[shard]["ordinal"].tolist() if shard in omissions else []


def _columns(manifest: Manifest, made: Mapping[str, ColumnRef]) -> tuple[ColumnRef, ...]:
    """The columns of the version by name, new ones in the places of old ones."""
    columns = {**{column.name: column for column in manifest.columns}, **made}
    return tuple(column for _, column in sorted(columns.items()))


def _merged(dataset: Dataset, omissions: Mapping[int, Omissions], benchmarks: Sequence[str]) -> bytes:
    """The new reasons behind those that the parent has."""
    old = read_reasons(dataset.store, dataset.manifest)
    if old is None:
        return encode_reasons(omissions, benchmarks)
    merged: dict[int, Omissions] = {shard: old.of_shard(shard) for shard in old.shards}
    for shard, rows in omissions.items():
        moved = rows.copy()
        moved["of_shard"][moved["reason"] == WORDS.index(CONTAMINATED)] += np.uint32(len(old.benchmarks))
        both = np.concatenate((merged.get(shard, np.zeros(0, OMISSION)), moved))
        merged[shard] = both[np.argsort(both["ordinal"], kind="stable")]
    return encode_reasons(merged, [*old.benchmarks, *benchmarks])
