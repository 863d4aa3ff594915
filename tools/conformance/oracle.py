"""The order of reading once more, word for word from specs/FORMAT.md: slow, plain, and sharing no line with the reader.

Here: one epoch as a list, and the steps of all ranks over it.
Elsewhere: the reader's own order (shardkit.read), comparing both (resume.py).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import blake3

M64 = (1 << 64) - 1
PHI = 0x9E3779B97F4A7C15
Place = tuple[int, int]


class Order(NamedTuple):
    """What an epoch depends on: live ordinals of each shard, k, and the fields of the state."""

    live: tuple[tuple[int, ...], ...]
    k: int
    seed: int
    lanes: int
    window: int

    @property
    def samples(self) -> int:
        """N."""
        return sum(len(shard) for shard in self.live)


class Turn(NamedTuple):
    """One step: what every rank gets (samples, True where they only pad), and the state's epoch and position after.

    `ranks` is empty where the rest of an epoch was dropped.
    """

    ranks: tuple[tuple[tuple[Any, bool], ...], ...]
    epoch: int
    position: int


def mix(x: int) -> int:
    """The finaliser of SplitMix64."""
    x &= M64
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & M64
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def perm(i: int, n: int, key: int) -> int:
    """The keyed permutation of [0, n)."""
    a = math.isqrt(n) + (math.isqrt(n) ** 2 < n)
    b = (n + a - 1) // a
    first = True
    while first or i >= n:
        first = False
        x, y = i % a, i // a
        for r in (0, 2, 4):
            x = (x + ((mix(key + r * PHI + y) >> 32) * a >> 32)) % a
            y = (y + ((mix(key + (r + 1) * PHI + x) >> 32) * b >> 32)) % b
        i = y * a + x
    return i


def epoch_places(order: Order, epoch: int) -> list[Place]:
    """Shard and ordinal of every position of an epoch, in order."""
    text = b"shardkit reading order 1\0" + struct.pack("<QQ", order.seed, epoch)
    block_key, tail_key, window_key = struct.unpack("<3Q", blake3.blake3(text).digest(length=24))
    line = line_of(order, block_key, tail_key)
    lanes = lanes_of(order)
    base, longer = divmod(len(line), lanes)
    sequences = []
    start = 0
    for lane in range(lanes):
        length = base + (lane < longer)
        sequences.append(shuffled(line[start : start + length], lane, order.window, window_key, lanes))
        start += length
    return [sequences[p % lanes][p // lanes] for p in range(len(line))]


def line_of(order: Order, block_key: int, tail_key: int) -> list[Place]:
    """Full blocks permuted, the tails behind them."""
    k = order.k
    blocks: list[list[Place]] = []
    tails: list[tuple[int, int, list[Place]]] = []
    for s, ordinals in enumerate(order.live):
        full = len(ordinals) // k
        blocks += [[(s, ordinal) for ordinal in ordinals[at * k : (at + 1) * k]] for at in range(full)]
        if len(ordinals) % k:
            tails.append((mix(tail_key + s), s, [(s, ordinal) for ordinal in ordinals[full * k :]]))
    line = [place for q in range(len(blocks)) for place in blocks[perm(q, len(blocks), block_key)]]
    return line + [place for _, _, tail in sorted(tails) for place in tail]


def lanes_of(order: Order) -> int:
    """The lanes that a dataset of this size has."""
    most = max(1, order.samples // (2 * order.k))
    lanes = order.lanes
    if lanes > most:
        lanes = 1
        while 2 * lanes <= most:
            lanes *= 2
    return lanes


def shuffled(piece: Sequence[Place], lane: int, w: int, window_key: int, lanes: int) -> list[Place]:
    """A lane's piece of the line, window by window."""
    result: list[Place] = []
    number, size = 0, w - lane * w // lanes
    while len(result) < len(piece):
        window = piece[len(result) : len(result) + size]
        key = mix(mix(window_key + lane) + number)
        result += [window[perm(j, len(window), key)] for j in range(len(window))]
        number, size = number + 1, w
    return result


def next_turn(places: Sequence[Any], epoch: int, position: int, topology: tuple[int, int], tail: str) -> Turn:
    """The step of `topology` (ranks, batch size) at a position of an epoch whose places are given."""
    ranks, size = topology
    total, left = len(places), len(places) - position
    batch = ranks * size
    if left >= batch:
        bounds = [(position + r * size, position + (r + 1) * size) for r in range(ranks)]
        position += batch
    elif tail == "pad" and left:
        bounds = [(position + r * size, position + (r + 1) * size) for r in range(ranks)]
        position = total
    elif tail == "split" and left >= ranks:
        bounds = [(position + r * left // ranks, position + (r + 1) * left // ranks) for r in range(ranks)]
        position = total
    else:
        return Turn((), epoch + 1, 0)
    given = tuple(tuple((places[p % total], p >= total) for p in range(*bound)) for bound in bounds)
    if not _any_more(total - position, topology, tail):
        return Turn(given, epoch + 1, 0)
    return Turn(given, epoch, position)


def _any_more(left: int, topology: tuple[int, int], tail: str) -> bool:
    ranks, size = topology
    least = {"drop": ranks * size, "pad": 1, "split": ranks}[tail]
    return left >= min(least, ranks * size)
