"""Keyed permutations of [0, n), closed-form and defined to the bit (specs/FORMAT.md, Reading order).

Here: the mixing function, the permutation for one number, and the same for arrays.
Elsewhere: what is permuted (order.py).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import blake3
import numpy as np
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
ROUNDS = 6
"""Rounds of the Feistel network. Four already pass the tests of uniformity; six leave room for domains of a few."""


def derive_keys(label: str, seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """`count` 64-bit keys from BLAKE3 of the label, a NUL byte, and seed and epoch as 8 little-endian bytes each."""
    text = label.encode() + b"\0" + seed.to_bytes(8, "little") + epoch.to_bytes(8, "little")
    stream = blake3.blake3(text).digest(length=8 * count)
    return tuple(int.from_bytes(stream[at : at + 8], "little") for at in range(0, 8 * count, 8))


def permute(i: int, n: int, key: int) -> int:
    """Where the keyed permutation of [0, n) sends i.

    A Feistel network over a grid of a columns and b rows, a = ceil(sqrt(n)), b = ceil(n / a); what falls outside
    [0, n) goes through it again (cycle-walking), which happens to fewer than one in sqrt(n).
    """
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    while True:
        y, x = divmod(i, a)
        for r in range(0, ROUNDS, 2):
            x = (x + ((mix64(key + r * GOLDEN + y) >> 32) * a >> 32)) % a
            y = (y + ((mix64(key + (r + 1) * GOLDEN + x) >> 32) * b >> 32)) % b
        i = y * a + x
        if i < n:
            return i


def mix64(x: int) -> int:
    """A bijection of 64-bit numbers that scatters them (the finaliser of SplitMix64)."""
    x &= MASK
    x = (x ^ (x >> 30)) * MIX_1 & MASK
    x = (x ^ (x >> 27)) * MIX_2 & MASK
    return x ^ (x >> 31)


def permute_array(i: U64, n: U64, key: U64) -> U64:
    """`permute` for arrays: i, n and key have one shape, or n and key have one element."""
    a = _ceil_sqrt(n)
    b = (n + a - _U(1)) // a
    result = _network(i, a, b, key)
    outside = np.flatnonzero(result >= n)
    while outside.size:
        again = _network(result[outside], *(_pick(column, outside) for column in (a, b, key)))
        result[outside] = again
        outside = outside[again >= _pick(n, outside)]
    return result


def mix64_array(x: U64) -> U64:
    """`mix64` for an array, which is overwritten."""
    scratch = x >> _U(30)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, _U(MIX_1), out=x)
    np.right_shift(x, _U(27), out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, _U(MIX_2), out=x)
    np.right_shift(x, _U(31), out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    return x


_U = np.uint64


def _network(i: U64, a: U64, b: U64, key: U64) -> U64:
    y, x = np.divmod(i, a)
    for r in range(0, ROUNDS, 2):
        _round(x, y, a, key + _U(r * GOLDEN & MASK))
        _round(y, x, b, key + _U((r + 1) * GOLDEN & MASK))
    return y * a + x


def _round(target: U64, other: U64, size: U64, key: U64) -> None:
    mixed = mix64_array(other + key)
    np.right_shift(mixed, _U(32), out=mixed)
    np.multiply(mixed, size, out=mixed)
    np.right_shift(mixed, _U(32), out=mixed)
    np.add(target, mixed, out=target)
    np.subtract(target, size * (target >= size), out=target)


def _ceil_sqrt(n: U64) -> U64:
    root = np.sqrt((n - _U(1)).astype(np.float64)).astype(np.uint64)
    root -= root * root > n - _U(1)  # a float's root may be one off
    root += (root + _U(1)) * (root + _U(1)) <= n - _U(1)
    return root + _U(1)


def _pick(column: U64, at: NDArray[np.intp]) -> U64:
    return column if column.size == 1 else column[at]
