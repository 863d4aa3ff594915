"""Which group goes to which split: shares met in every stratum and over all.

Here: the arithmetic, on arrays, a pure function of them.
Elsewhere: what a group and a stratum are (groups.py), publishing the result (split.py).

Strata are walked in the order of their hash, and a stratum's groups in that of theirs; what rounding leaves of a share
is carried on to the next stratum, so that a thousand strata of three samples meet the shares as one of three thousand
does. A group that has a split keeps it, which is what makes splits stable when data is appended.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

I64: TypeAlias = NDArray[np.int64]
U64: TypeAlias = NDArray[np.uint64]
F64: TypeAlias = NDArray[np.float64]


def assign(hashes: U64, strata: I64, sizes: I64, kept: I64, shares: F64) -> I64:
    """The split (0 … len(shares) - 1) of every group.

    `hashes` order groups within their stratum; `strata` are numbered in the order in which they are walked; `sizes` are
    samples in each group; `kept` is the split that a group has already, or -1. All have one length.
    """
    chosen = kept.copy()
    carry = np.zeros(len(shares))
    order = np.lexsort((hashes, strata))
    cuts = np.flatnonzero(np.diff(strata[order])) + 1
    for members in np.split(order, cuts):
        wanted = shares * int(sizes[members].sum()) + carry
        old = members[kept[members] >= 0]
        given = np.bincount(kept[old], weights=sizes[old], minlength=len(shares)).astype(float)
        new = members[kept[members] < 0]
        chosen[new] = _pour(sizes[new], wanted - given)
        given += np.bincount(chosen[new], weights=sizes[new], minlength=len(shares))
        carry = wanted - given
    return chosen


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
