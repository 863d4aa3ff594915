"""Samples as a split sees them: which belong together, and which stratum each group is in.

Here: group and stratum of every live sample.
Elsewhere: dividing the groups (assign.py), finding near-duplicates (dedup.py).

A sample carries labels: its values of the group fields, its near-duplicate cluster; samples that share one, directly or
through others, are one group. A sample without a label is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import xxhash

from shardkit.curate.assign import I64, U64
from shardkit.curate.records import read_records
from shardkit.read.dataset import Dataset
from shardkit.read.listing import Listed, list_samples
from shardkit.records.sample import Sample
from shardkit.spec.curation import SplitOptions

DURATIONS = (5.0, 15.0, 60.0, 600.0)
"""Edges in seconds between the strata of sound and video."""


class Labels(Protocol):
    """(shard, stored ordinal) -> the near-duplicate cluster of a sample that has one; a dict will do."""

    def get(self, place: tuple[int, int], /) -> str | None:
        """The cluster of the sample at a place."""
        ...


class Groups(NamedTuple):
    """Live samples in stored order, and what a split needs of them; arrays of one length each.

    Of samples: `shards`, stored `ordinals`, `group` (a number). Of groups: `hashes`, `strata`, `sizes`. `absent` are
    fields that were to keep samples together and that none has.
    """

    shards: I64
    ordinals: I64
    group: I64
    hashes: U64
    strata: I64
    sizes: I64
    absent: tuple[str, ...] = ()


def gather_groups(dataset: Dataset, options: SplitOptions, clusters: Labels) -> Groups:
    """Groups and strata of a dataset's live samples; memory grows by about 200 bytes a sample.

    Records are read only where a group field stands in them. Raises ShardDamaged, StorageFailed.
    """
    joined = _Joined()
    roots: list[int] = []
    strata: list[int] = []
    places: list[tuple[int, int]] = []
    seen: set[str] = set()
    for listed, row in _rows(dataset, options):
        labels = _values(row, options.group, seen)
        cluster = clusters.get((listed.shard, listed.ordinal))
        labels += [] if cluster is None else [f"near={cluster}"]
        own = [_hash(options.seed, label) for label in labels] or [_hash(options.seed, listed.key)]
        roots.append(joined.join(own))
        strata.append(_hash(options.seed, _stratum(listed, options)))
        places.append((listed.shard, listed.ordinal))
    found = np.array([joined.find(root) for root in roots], dtype=np.uint64)
    hashes, first, group, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    _, ranks = np.unique(np.array(strata, dtype=np.uint64)[first], return_inverse=True)
    where = np.array(places, dtype=np.int64).reshape(-1, 2)
    absent = tuple(name for name in options.group if name not in seen)
    return Groups(where[:, 0], where[:, 1], group.astype(np.int64), hashes, ranks.astype(np.int64), sizes, absent)


def _rows(dataset: Dataset, options: SplitOptions) -> Iterator[tuple[Listed, Sample | Listed]]:
    """Every live sample in stored order, with what its group fields are read of: its record only where one needs it."""
    if set(options.group) <= {"source", "category"}:
        yield from ((listed, listed) for listed in list_samples(dataset))
    else:
        records = (record for _, _, record in read_records(dataset))
        yield from zip(list_samples(dataset), records, strict=True)


def _values(row: Sample | Listed, names: tuple[str, ...], seen: set[str]) -> list[str]:
    found = []
    for name in names:
        if name.startswith("provenance."):
            field = name.removeprefix("provenance.")
            value = row.provenance.get(field, "") if isinstance(row, Sample) else ""
            label = f"{row.source}/{field}={value}"  # speaker 7 of one corpus is not speaker 7 of another
        else:
            value = str(getattr(row, name))
            label = f"{name}={value}"
        if value:
            found.append(label)
            seen.add(name)
    return found


def _stratum(row: Listed, options: SplitOptions) -> str:
    facts = {"source": row.source, "category": row.category, "modality": row.modalities, "duration": ""}
    facts["duration"] = str(np.searchsorted(DURATIONS, row.audio_ms / 1000)) if row.audio_ms else ""
    return msgspec.json.encode([facts[name] for name in options.by]).decode()


def _hash(seed: int, label: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}\0{label}".encode())


class _Joined:
    """Labels joined into groups, a group's name being its smallest label: no matter in which order they came."""

    def __init__(self) -> None:
        self._up: dict[int, int] = {}

    def find(self, label: int) -> int:
        """The smallest label of the group."""
        root = label
        while root in self._up:
            root = self._up[root]
        while label != root:  # shorten the way for the next one
            above, self._up[label] = self._up[label], root
            label = above
        return root

    def join(self, labels: list[int]) -> int:
        """Make all labels one group; its smallest label so far."""
        if len(labels) == 1 and labels[0] not in self._up:
            return labels[0]
        roots = [self.find(label) for label in labels]
        least = min(roots)
        for root in roots:
            if root != least:
                self._up[root] = least
        return least
