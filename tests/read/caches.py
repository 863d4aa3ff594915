"""A dataset behind a server and what a cache of it holds, for the tests of the disk cache."""

from __future__ import annotations

from pathlib import Path

from shardkit.read.dataset import Dataset
from shardkit.read.diskcache import Counts
from shardkit.read.loader import open_loader
from shardkit.read.serve import FolderServer

BLOCK = 4
A, B = "a" * 64, "b" * 64


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "blocks" / "ranges").rglob("*") if path.is_file())


def total(cache: Path) -> int:
    return sum(path.stat().st_size for path in entries(cache))


def requested(server: FolderServer) -> list[str]:
    return [request.path for request in server.requests]


def epoch(dataset: Dataset, **fields: object) -> list[object]:
    return list(open_loader(dataset, batch_size=8, seed=3, **fields))  # type: ignore[call-overload]


def counts(dataset: Dataset) -> Counts:
    return dataset.store.counts  # type: ignore[attr-defined, no-any-return]
