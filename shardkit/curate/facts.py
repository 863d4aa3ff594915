"""How many live samples have which source, licence, category, modalities and split: one pass over the indexes.

Here: the counts.
Elsewhere: one row a sample (read.listing), what is made of the counts (licences.py, card.py).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shardkit.read.dataset import Dataset
from shardkit.read.find import read_indexes
from shardkit.store.manifest import read_split

LIVE = ("sources", "licences", "categories", "modality_sets")


class Facts(NamedTuple):
    """Counts of live samples; `by_licence` has (licence, source) -> (samples, bytes in the tar)."""

    by_licence: dict[tuple[str, str], tuple[int, int]]
    by_category: dict[str, int]
    by_modality: dict[str, int]
    by_split: dict[str, int]


def count_facts(dataset: Dataset) -> Facts:
    """The counts of a version. Raises ShardDamaged, StorageFailed."""
    licences: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    words: dict[str, Counter[str]] = {name: Counter() for name in ("categories", "modality_sets", "split")}
    split = read_split(dataset.store, dataset.manifest)
    for shard, head, page in read_indexes(dataset, range(len(dataset.manifest.shards))):
        live = np.ones(page.samples, dtype=np.bool_)
        live[list(dataset.omitted(shard))] = False
        codes = {name: page.column(name)[live].astype(np.int64) for name in LIVE}
        pairs = codes["licences"] * len(head.sources) + codes["sources"]
        for pair, count, size in _sums(pairs, page.column("sizes")[live]):
            key = (head.licences[pair // len(head.sources)], head.sources[pair % len(head.sources)])
            licences[key] += count
            sizes[key] += size
        for name in ("categories", "modality_sets"):
            dictionary = getattr(head, name)
            words[name].update({dictionary[at]: count for at, count, _ in _sums(codes[name], None)})
        if split is not None:
            names, values = split.of_shard(shard, page.samples)
            words["split"].update({names[at]: count for at, count, _ in _sums(values[live].astype(np.int64), None)})
    return Facts(
        by_licence={key: (count, sizes[key]) for key, count in sorted(licences.items())},
        by_category=_descending(words["categories"]),
        by_modality=_descending(words["modality_sets"]),
        by_split={name or "none": count for name, count in _descending(words["split"]).items()},
    )


def _sums(codes: NDArray[np.int64], weights: NDArray[Any] | None) -> list[tuple[int, int, int]]:
    """(code, how many have it, sum of their weights) of every code that occurs."""
    found, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sums = np.zeros(len(found), dtype=np.int64)
    if weights is not None:
        np.add.at(sums, inverse, weights.astype(np.int64))
    return list(zip(found.tolist(), counts.tolist(), sums.tolist(), strict=True))


def _descending(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
