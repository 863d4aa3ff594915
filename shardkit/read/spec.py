"""How a dataset is read: the arguments of `open_loader` as one frozen struct.

Here: the fields, their ranges, what is not there yet.
Elsewhere: what of it is saved (state.py), what it does (loader.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from shardkit.errors import SpecError
from shardkit.read.mix import Mix
from shardkit.read.pack import Buckets, Pack, Packing
from shardkit.read.where import parse_where

Tail = Literal["drop", "pad", "split"]
OnDamage = Literal["error", "skip"]

DEFAULT_LANES = 1024
DEFAULT_TAIL: Tail = "drop"
POOL_BYTES = 512 << 20
"""Data in all open windows together, where `window` is not given."""


class LoaderSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a loader hands out and how.

    Part of the reading state, None takes the state's value or the default: `seed` (0), `lanes` (1,024; small datasets
    use fewer), `window` in samples (so that all open windows hold about 512 MiB, at least four blocks), `tail`
    (`drop`).
    `tail`: what happens to the last samples of an epoch when they do not fill a global batch: dropped, padded with
    samples from the epoch's beginning (marked), or split among the ranks (only if there is one for every rank).
    Free to change at any step: `batch_size` per rank, `rank`, `world_size`, `num_workers` (threads that read, check
    and decode; 0 is the caller's thread), `read_ahead_bytes` (bound of the blocks held and fetched ahead; with less
    than the open windows need, single samples are read), `on_damage` (`skip` leaves damaged or unreachable samples
    out, counts and names them).
    `pack` (Pack or Buckets) hands out packs for ever, without a tail; `batch_size` then counts packs.
    `where` (a filter by what the index says: `modality~image,licence=CC0-1.0`) and `mix` (how a mixture is mixed) are
    part of the state, too. `cache` is a folder in which up to `cache_bytes` (64 GiB) of what comes over a network are
    kept, as in `open_dataset`. Raises SpecError.
    """

    batch_size: int = 1
    seed: int | None = None
    lanes: int | None = None
    window: int | None = None
    tail: Tail | None = None
    where: str | None = None
    mix: Mix | None = None
    pack: Packing | None = None
    cache: str | Path | None = None
    cache_bytes: int | None = None
    on_damage: OnDamage = "error"
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    read_ahead_bytes: int = 768 << 20

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not low <= value <= high):
                raise SpecError(f"{name} is {value!r}; wanted a whole number from {low} to {high}")
        if self.where is not None:
            parse_where(self.where)
        if self.mix is not None and not isinstance(self.mix, Mix):
            raise SpecError(f"mix is {self.mix!r}; wanted Mix(weights=…)")
        if self.pack is not None and not isinstance(self.pack, Pack | Buckets):
            raise SpecError(f"pack is {self.pack!r}; wanted Pack(tokens=…) or Buckets(samples=…)")
        if self.pack is not None and self.tail is not None:
            raise SpecError(
                f"tail is {self.tail!r} and pack is given; packs run on over the end of an epoch: leave it out"
            )
        if self.cache_bytes is not None and self.cache is None:
            raise SpecError("cache_bytes is given and cache is not; give the folder of the cache, too")
        if self.rank >= self.world_size:
            raise SpecError(f"rank is {self.rank}; with world_size {self.world_size} it is below {self.world_size}")
        for name, choices in (("tail", (None, "drop", "pad", "split")), ("on_damage", ("error", "skip"))):
            if getattr(self, name) not in choices:
                wanted = ", ".join(choice for choice in choices if choice)
                raise SpecError(f"{name} is {getattr(self, name)!r}; wanted one of {wanted}")

    @property
    def global_batch(self) -> int:
        """Samples of one step over all ranks."""
        return self.batch_size * self.world_size


_RANGES = (
    ("batch_size", 1, 1 << 24),
    ("seed", 0, (1 << 64) - 1),
    ("lanes", 1, 1 << 20),
    ("window", 1, (1 << 31) - 1),
    ("rank", 0, (1 << 20) - 1),
    ("world_size", 1, 1 << 20),
    ("num_workers", 0, 1024),
    ("read_ahead_bytes", 0, 1 << 50),
    ("cache_bytes", 0, 1 << 60),
)
