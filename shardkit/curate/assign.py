"""Which group goes to which split: shares met in every stratum and over all.

Here: the arithmetic, on arrays, a pure function of them.
Elsewhere: what a group and a stratum are (groups.py), publishing the result (split.py).

Strata are walked in the order of their hash, and a stratum's groups in that of theirs; what rounding leaves of a share
is carried on to the next stratum, so that a thousand strata of three samples meet the shares as one of three thousand
does. Groups so large that where they fall decides over the shares are placed first, the largest first, each where most
is wanting; their strata are walked first, and the others make up for them. A group that has a split keeps it, which is
what makes splits stable when data is appended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

I64: TypeAlias = NDArray[np.int64]
U64: TypeAlias = NDArray[np.uint64]
F64: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

LARGE = 0.004
"""Part of all samples beyond which a group is large: poured in, it may miss a boundary by half of that and more."""


def assign(hashes: U64, strata: I64, sizes: I64, kept: I64, shares: F64) -> I64:
    """The split (0 … len(shares) - 1) of every group.

    `hashes` order groups within their stratum; `strata` are numbered in the order in which they are walked; `sizes` are
    samples in each group; `kept` is the split that a group has already, or -1. All have one length.
    """
    large = (sizes > LARGE * int(sizes.sum())) & (sizes > 1)
    chosen = kept.copy()
    _place(hashes, sizes, large, chosen, shares)
    carry = np.zeros(len(shares))
    for members in _walk(hashes, strata, large):
        old = members[chosen[members] >= 0]
        needs = shares * int(sizes[members].sum()) + carry - _sums(chosen[old], sizes[old], len(shares))
        new = members[chosen[members] < 0]
        chosen[new] = _pour(sizes[new], needs)
        carry = needs - _sums(chosen[new], sizes[new], len(shares))
    return chosen


def _place(hashes: U64, sizes: I64, large: Flags, chosen: I64, shares: F64) -> None:
    """Give every large group that has no split the one that wants most, the largest group first."""
    given = chosen >= 0
    needs = shares * int(sizes.sum()) - _sums(chosen[given], sizes[given], len(shares))
    new = np.flatnonzero(large & ~given)
    for group in new[np.lexsort((hashes[new], -sizes[new]))].tolist():
        chosen[group] = int(np.argmax(needs))
        needs[chosen[group]] -= sizes[group]


def _sums(chosen: I64, sizes: I64, splits: int) -> F64:
    """Samples of each split."""
    return np.bincount(chosen, weights=sizes, minlength=splits).astype(np.float64)


def _walk(hashes: U64, strata: I64, large: Flags) -> Iterator[I64]:
    """The groups of each stratum in the order of their hash: strata that have large groups first."""
    late = np.ones(int(strata.max(initial=0)) + 1, dtype=np.int64)
    late[strata[large]] = 0
    order = np.lexsort((hashes, strata, late[strata]))
    cuts = np.flatnonzero(np.diff(strata[order])) + 1
    yield from np.split(order, cuts)


def _pour(sizes: I64, needs: F64) -> I64:
    """Groups in order fill one split after the other; a group goes to where its middle falls."""
    if not len(sizes):
        return np.zeros(0, dtype=np.int64)
    needs = np.maximum(needs, 0.0)
    total = float(needs.sum())
    needs = needs * (float(sizes.sum()) / total) if total > 0 else np.eye(len(needs))[0] * float(sizes.sum())
    ends = np.cumsum(sizes)
    found = np.searchsorted(np.cumsum(needs), ends - sizes / 2, side="right")
    return np.minimum(found, len(needs) - 1).astype(np.int64)
