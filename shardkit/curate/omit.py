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

STEP = "dedup"
Steps = Sequence[Mapping[str, str]]


def publish_without(
    root: Path, dataset: Dataset, omissions: Mapping[int, Omissions], steps: Steps, benchmarks: Sequence[str]
) -> tuple[str, Manifest]:
    """Publish the version of `dataset` that leaves more samples out: (its digest, its manifest). Under the lock.

    `omissions`: position of a shard -> OMISSION rows, ordinals ascending, none of them left out before; `benchmarks`
    are what rows of contaminated ones refer to. What was left out before stays out, and its reasons are kept.
    Raises ShardDamaged, StorageFailed.
    """
    manifest = dataset.manifest
    before = {shard: dataset.omitted(shard) for shard in range(len(manifest.shards))}
    omitted = {shard: [*before[shard], *_ordinals(omissions, shard)] for shard in before}
    omitted = {shard: sorted(ordinals) for shard, ordinals in omitted.items() if ordinals}
    made = {
        OMITTED: publish_omitted(root, omitted),
        REASONS: publish_reasons(root, _merged(dataset, omissions, steps, benchmarks)),
    }
    version = msgspec.structs.replace(
        manifest,
        parent=dataset.version,
        totals=live_totals(dataset.store, manifest.shards, omitted),
        columns=_columns(manifest, made),
        step=StepRecord(name=STEP, options={"steps": [dict(sorted(step.items())) for step in steps]}),
    )
    return publish_version(root, version), version


def _ordinals(omissions: Mapping[int, Omissions], shard: int) -> list[int]:
    return omissions[shard]["ordinal"].tolist() if shard in omissions else []


def _columns(manifest: Manifest, made: Mapping[str, ColumnRef]) -> tuple[ColumnRef, ...]:
    """The columns of the version, new ones in the places of old ones of their name, or at the end."""
    kept = [made.get(column.name, column) for column in manifest.columns]
    names = {column.name for column in kept}
    return (*kept, *(column for name, column in made.items() if name not in names))


def _merged(dataset: Dataset, omissions: Mapping[int, Omissions], steps: Steps, benchmarks: Sequence[str]) -> bytes:
    """The new reasons behind those that the parent has."""
    old = read_reasons(dataset.store, dataset.manifest)
    if old is None:
        return encode_reasons(omissions, steps, benchmarks)
    merged: dict[int, Omissions] = {shard: old.of_shard(shard) for shard in old.shards}
    for shard, rows in omissions.items():
        moved = rows.copy()
        moved["of_shard"][moved["reason"] == WORDS.index(CONTAMINATED)] += np.uint32(len(old.benchmarks))
        both = np.concatenate((merged.get(shard, np.zeros(0, OMISSION)), moved))
        merged[shard] = both[np.argsort(both["ordinal"], kind="stable")]
    return encode_reasons(merged, [*old.steps, *steps], [*old.benchmarks, *benchmarks])
