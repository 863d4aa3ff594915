"""Whole numbers in shares: a total divided as near to its weights as can be.

Here: largest remainder, also where a part cannot hold its share.
Elsewhere: what is divided: samples among sources (build.quotas), rows among strata (sources.sampling).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction


def share(total: int, weights: Sequence[Fraction]) -> tuple[int, ...]:
    """`total` in whole parts as near to the weights as can be: the largest remainders get what rounding left.

    Equal remainders go to the earlier one. The parts add up to `total` exactly.
    """
    whole = sum(weights, Fraction(0))
    exact = [total * weight / whole for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda at: (parts[at] - exact[at], at))
    for at in by_remainder[: total - sum(parts)]:
        parts[at] += 1
    return tuple(parts)


def share_within(total: int, weights: Mapping[str, Fraction], room: Mapping[str, int]) -> dict[str, int]:
    """The same by name, where no part takes more than its `room`; what it leaves is shared among the others.

    The parts add up to `total`, or to all the room of those with a weight where that is less.
    """
    given = dict.fromkeys(weights, 0)
    takers = [name for name, weight in weights.items() if weight > 0 and room[name] > 0]
    left = total
    while left and takers:
        for name, part in zip(takers, share(left, [weights[name] for name in takers]), strict=True):
            given[name] += min(part, room[name] - given[name])
        left = total - sum(given.values())
        takers = [name for name in takers if given[name] < room[name]]
    return given


def weight_of(number: float) -> Fraction:
    """A ratio as it was written: 0.1 is a tenth, not the nearest double."""
    return Fraction(str(number))
