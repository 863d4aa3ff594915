"""Packing: which samples of a lane's pool go together, to the bit as specs/FORMAT.md says.

Here: what packing and length bucketing are asked for, what a sample costs, choosing.
Elsewhere: lanes and their state (pack_state.py), reading into the pools (packed.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from shardkit.errors import SpecError

Oversized = Literal["skip", "error", "alone"]

CARRIED = 4096
"""Samples in the pools of all lanes together, where `lanes` is not given."""

POOLS_IN_A_LANE = 4
"""A lane has at least so many pools of samples an epoch: with fewer, samples would meet themselves in their pool."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoded sample takes of a pack: at least one token.

    `audio_seconds` counts in whole milliseconds. `size_bytes` is the memory that the decoded sample holds while it is
    carried; 0 stands for the bytes of the sample in its tar.
    """

    tokens: int
    images: int = 0
    audio_seconds: float = 0.0
    size_bytes: int = 0

    @property
    def audio_ms(self) -> int:
        """Milliseconds of sound, to the nearest, ties to even."""
        return round(1000 * self.audio_seconds)


class Pack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sequences of whole samples up to `tokens`, and `images` and `audio_seconds` where they are given.

    A lane keeps up to `candidates` samples, begins a pack with the oldest and fills it with the largest that fit.
    `lanes` (128 with 32 candidates; small datasets use fewer) is at least the number of ranks times torch workers.
    A sample that fits no pack is left out and named (`skip`), refused (`error`), or makes a pack `alone`.
    `carried_bytes` bounds the decoded samples that wait in memory; those beyond it are read again. It may change at
    any time, all else is part of the reading state. Raises SpecError.
    """

    tokens: int
    images: int | None = None
    audio_seconds: float | None = None
    candidates: int = 32
    lanes: int | None = None
    oversized: Oversized = "skip"
    carried_bytes: int = 512 << 20

    def __post_init__(self) -> None:
        _check(self, ("tokens", 1, 1 << 40), ("images", 0, 1 << 31), *_SHARED)
        seconds = self.audio_seconds
        if seconds is not None and not (type(seconds) in (int, float) and 0 <= seconds < 1 << 40):
            raise SpecError(f"pack.audio_seconds is {seconds!r}; wanted a number of seconds from 0 on")

    def excess(self, cost: Cost) -> str:
        """Why a sample fits no pack, nothing where it fits."""
        if cost.tokens > self.tokens:
            return f"{cost.tokens} tokens, a pack takes {self.tokens}"
        if self.images is not None and cost.images > self.images:
            return f"{cost.images} images, a pack takes {self.images}"
        if self.audio_seconds is not None and cost.audio_ms > round(1000 * self.audio_seconds):
            return f"{cost.audio_ms} ms of sound, a pack takes {self.audio_seconds} seconds"
        return ""


class Buckets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches of like length: of `samples` samples each, or as many as fit `tokens` when padded to the longest.

    A lane keeps up to `candidates` samples; a batch holds the oldest and its neighbours in length. `lanes`,
    `oversized` and `carried_bytes` are those of Pack. Raises SpecError.
    """

    tokens: int | None = None
    samples: int | None = None
    candidates: int = 128
    lanes: int | None = None
    oversized: Oversized = "skip"
    carried_bytes: int = 512 << 20

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.samples is None):
            raise SpecError("buckets take either `tokens` (padding included) or `samples` a batch; give one of them")
        _check(self, ("tokens", 1, 1 << 40), ("samples", 1, 1 << 20), *_SHARED)
        if self.samples is not None and self.samples > self.candidates:
            raise SpecError(f"a batch of {self.samples} samples is chosen from {self.candidates} candidates; give more")

    def excess(self, cost: Cost) -> str:
        """Why a sample fits no batch, nothing where it fits."""
        over = self.tokens is not None and cost.tokens > self.tokens
        return f"{cost.tokens} tokens, a batch takes {self.tokens}" if over else ""


Packing: TypeAlias = Pack | Buckets


class Candidate(NamedTuple):
    """A sample that waits in a lane's pool: its number in the lane, its cost, what came of it, whether it fits."""

    at: int
    tokens: int
    images: int
    audio_ms: int
    fits: bool
    value: Any


Draw: TypeAlias = Callable[[], Candidate]


def next_pack(packing: Packing, pool: list[Candidate], draw: Draw) -> list[Candidate]:
    """The lane's next pack, taken out of its pool, which `draw` fills with the lane's next samples, oldest first.

    What `draw` raises comes through; the pool is then of no more use.
    """
    return CHOOSERS[type(packing)](packing, pool, draw)


def lanes_for(packing: Packing, samples: int) -> int:
    """How many lanes pack an epoch of so many samples: those asked for, or a power of two, fewer in small ones."""
    if packing.lanes is not None:
        return packing.lanes
    pools = max(1, samples // (POOLS_IN_A_LANE * packing.candidates))
    return 1 << min(max(1, CARRIED // packing.candidates), pools).bit_length() - 1


def _fill_pack(packing: Pack, pool: list[Candidate], draw: Draw) -> list[Candidate]:
    """The oldest, then, again and again, the candidate of most tokens that fits; of equal ones the oldest."""
    tokens, images, audio_ms = packing.tokens, packing.images, packing.audio_seconds
    room = [tokens, 1 << 62 if images is None else images, 1 << 62 if audio_ms is None else round(1000 * audio_ms)]
    chosen: list[Candidate] = []
    _top_up(packing, pool, draw)
    at: int | None = 0
    while at is not None:
        taken = pool.pop(at)
        chosen.append(taken)
        room = [room[0] - taken.tokens, room[1] - taken.images, room[2] - taken.audio_ms]
        _top_up(packing, pool, draw)
        at = _largest(pool, *room)
    return chosen


def _largest(pool: list[Candidate], tokens: int, images: int, audio_ms: int) -> int | None:
    best, most = None, 0
    for at, (_, has, pictures, sound, fits, _) in enumerate(pool):
        if most < has <= tokens and pictures <= images and sound <= audio_ms and fits:
            best, most = at, has
    return best


def _fill_bucket(packing: Buckets, pool: list[Candidate], draw: Draw) -> list[Candidate]:
    """The oldest and its neighbours in length: the window with least padding, or with most tokens in the budget."""
    _top_up(packing, pool, draw)
    if not pool[0].fits:
        return [pool.pop(0)]
    order = sorted((at for at, one in enumerate(pool) if one.fits), key=lambda at: (pool[at].tokens, at))
    lengths = [pool[at].tokens for at in order]
    oldest = order.index(0)
    start, stop = _nearest(lengths, oldest, packing)
    taken = order[start:stop]
    chosen = [pool[at] for at in taken]
    gone = set(taken)
    pool[:] = [one for at, one in enumerate(pool) if at not in gone]
    return chosen


def _nearest(lengths: list[int], oldest: int, packing: Buckets) -> tuple[int, int]:
    """The best window [start, stop) of sorted lengths that holds the oldest; of equal ones that of the shortest."""
    sums = [0]
    for length in lengths:
        sums.append(sums[-1] + length)
    best: tuple[int, int, int] | None = None
    for stop in range(oldest + 1, len(lengths) + 1):
        longest = lengths[stop - 1]
        if packing.samples is not None:
            start = stop - min(packing.samples, len(lengths))
            if start < 0:
                continue
            worth = sums[stop] - sums[start] - (stop - start) * longest
        else:
            assert packing.tokens is not None, "buckets take tokens or samples"
            start = max(0, stop - packing.tokens // longest)
            worth = sums[stop] - sums[start]
        if start <= oldest and (best is None or worth > best[0]):
            best = (worth, start, stop)
    assert best is not None, "the oldest fits alone"
    return best[1], best[2]


def _top_up(packing: Packing, pool: list[Candidate], draw: Draw) -> None:
    while len(pool) < packing.candidates:
        pool.append(draw())


CHOOSERS: dict[type, Callable[..., list[Candidate]]] = {Pack: _fill_pack, Buckets: _fill_bucket}


_Range: TypeAlias = tuple[str, int, int]
_SHARED: tuple[_Range, ...] = (("candidates", 1, 1 << 16), ("lanes", 1, 1 << 20), ("carried_bytes", 0, 1 << 50))
_NEEDED = {("Pack", "tokens"), ("Pack", "candidates"), ("Buckets", "candidates")}


def _check(packing: Packing, *ranges: _Range) -> None:
    name = type(packing).__name__
    for field, low, high in ranges:
        value = getattr(packing, field)
        if value is None and (name, field) not in _NEEDED:
            continue
        if type(value) is not int or not low <= value <= high:
            raise SpecError(f"{name}.{field} is {value!r}; wanted a whole number from {low} to {high}")
    if packing.oversized not in ("skip", "error", "alone"):
        raise SpecError(f"{name}.oversized is {packing.oversized!r}; wanted skip, error or alone")
