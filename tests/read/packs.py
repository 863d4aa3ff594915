"""Packed loaders over small datasets, for their tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shardkit.read.dataset import Dataset, Item, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.mixture import Mixture
from shardkit.read.pack import Buckets, Cost, Pack, Packing
from shardkit.read.packed import PackedLoader
from tests.read.made import make_dataset, numbered

PACK = Pack(tokens=600, images=3, candidates=6, lanes=8)
BUCKETS = Buckets(tokens=900, candidates=10, lanes=8)
SIZES = [130, 70, 3, 90]


def cost(item: Item) -> Cost:
    return Cost(tokens=20 + int(item.key[:4], 16) % 250, images=len(item.sample.modalities.image))


def opened(dataset: Dataset, pack: Packing = PACK, **fields: Any) -> PackedLoader:
    return open_loader(dataset, pack=pack, cost=cost, **fields)


def names(batches: list[Any]) -> list[list[str]]:
    """Keys of every pack."""
    return [[item.key for item in pack] for batch in batches for pack in batch]


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a file."""
    loaded: dict[str, Any] = json.loads(json.dumps(state))
    return loaded


def shared_dataset(root: Path) -> Dataset:
    """Four shards, three samples left out."""
    make_dataset(root, numbered(SIZES), omitted={1: [0, 5, 19]})
    return open_dataset(root)


def shared_mixture(roots: list[Path]) -> Mixture:
    """Two datasets of 90 and 110 samples."""
    made = numbered([90, 70, 40])
    make_dataset(roots[0], made[:1])
    make_dataset(roots[1], made[1:])
    return Mixture([open_dataset(root) for root in roots], (0.7, 0.3))
