"""Every bit of a small shard flipped, and the shard cut at every byte: no reader hands out a wrong sample.

Here: the damage, the readers (verify twice, by number, loader, both over HTTP), telling noticed from silent.
Elsewhere: options and the summary (__main__.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit import Dataset, ShardkitError, build_dataset, convert_spec, open_dataset, open_loader
from shardkit.read.serve import serve_folder
from shardkit.spec import BuildSpec, Codec
from shardkit.store.urls import open_store
from shardkit.store.verify import verify

Seen = list[tuple[str, dict[str, bytes]]]
Reader = Callable[[str], Seen | None]


class Damage(NamedTuple):
    """One damage under all readers: how many noticed it, for how many it did not matter, and what was silent."""

    noticed: int
    harmless: int
    problems: tuple[str, ...]


class Victim:
    """A dataset of one small shard of two samples, served over HTTP while it is damaged."""

    def __init__(self, folder: Path, codec: Codec) -> None:
        self.folder = folder
        source = {
            "kind": "generated", "name": "notes", "generator": "notes", "count": 2, "codec": codec,
            "normalizer": "question_answer", "parameters": {"characters": 40},
        }  # fmt: skip
        build_dataset(convert_spec({"name": "victim", "sources": [source]}, BuildSpec, "victim"), out=folder, workers=0)
        [self.shard] = folder.glob("shards/*/*")
        self.data = self.shard.read_bytes()
        self.good = sorted(by_number(str(folder)))

    def damages(self, every: int) -> Iterator[Damage]:
        """Every `every`-th bit flipped in turn, then every `every`-th length cut to; the shard is whole afterwards."""
        with serve_folder(self.folder) as server:
            places = {**{name: str(self.folder) for name in LOCAL}, **dict.fromkeys(REMOTE, server.url)}
            for bit in range(0, 8 * len(self.data), every):
                at, mask = bit // 8, 1 << bit % 8
                yield self._try(f"bit {bit}", self._with_byte(at, self.data[at] ^ mask), places)
            for length in range(0, len(self.data), every):
                yield self._try(f"cut to {length}", self.data[:length], places)
        self.shard.write_bytes(self.data)

    def _with_byte(self, at: int, value: int) -> bytes:
        return self.data[:at] + bytes([value]) + self.data[at + 1 :]

    def _try(self, what: str, data: bytes, places: dict[str, str]) -> Damage:
        with self.shard.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data, 0)
            file.truncate(len(data))
        noticed, harmless, problems = 0, 0, []
        for name, place in places.items():
            try:
                seen = READERS[name](place)
            except ShardkitError:
                noticed += 1
                continue
            if seen is None or sorted(seen) != self.good:
                problems.append(f"{self.shard.suffix} {what}: silent through {name}")
            else:
                harmless += 1
        return Damage(noticed, harmless, tuple(problems))


def by_number(url: str) -> Seen:
    """All samples by `dataset[i]`."""
    dataset = open_dataset(url)
    return [_bytes_of(dataset, at) for at in range(len(dataset))]


def by_loader(url: str) -> Seen:
    """All samples of one shuffled epoch."""
    loader = open_loader(open_dataset(url), batch_size=1, tail="split")
    return [
        (item.key, {name: bytes(data) for name, data in item.members.items()}) for batch in loader for item in batch
    ]


def by_verify(url: str) -> None:
    """`verify`; damages become the error that other readers raise."""
    damages = open_dataset(url).verify().damages
    if damages:
        raise ShardkitError(damages[0].message)


def by_verify_bytes(url: str) -> None:
    """`verify` of the bytes alone, as the command does without --deep."""
    damages = verify(open_store(url), records=False).damages
    if damages:
        raise ShardkitError(damages[0].message)


def _bytes_of(dataset: Dataset, at: int) -> tuple[str, dict[str, bytes]]:
    item = dataset[at]
    return item.key, {name: bytes(data) for name, data in item.members.items()}


READERS: dict[str, Reader] = {
    "verify": by_verify,
    "verify bytes": by_verify_bytes,
    "number": by_number,
    "loader": by_loader,
    "number over http": by_number,
    "loader over http": by_loader,
}
LOCAL = ("verify", "verify bytes", "number", "loader")
REMOTE = ("number over http", "loader over http")
