"""Sampling: which rows of a source become samples where fewer are wanted than it has.

Here: the structs, as they stand under `sampling` of a source.
Elsewhere: choosing the rows (sources.sampling), how many are wanted (build.quotas).
"""

from __future__ import annotations

from typing import Literal

from shardkit.spec.base import Strict


class Sampling(Strict, frozen=True, kw_only=True, tag_field="method"):
    """Base of the methods. A source of which all rows are wanted is read as it is, whatever its method."""


class FirstRows(Sampling, frozen=True, kw_only=True, tag="first"):
    """The first rows, in the source's order."""


class RandomRows(Sampling, frozen=True, kw_only=True, tag="random"):
    """Rows by the smallest keyed hash of (seed, revision, position); in the source's order.

    `seed` is the build's unless it is given. `scan` bounds how many rows are looked at: for sources without end.
    """

    seed: int | None = None
    scan: int | None = None

    def __post_init__(self) -> None:
        if self.scan is not None and self.scan < 1:
            raise ValueError(f"sampling.scan is {self.scan}; at least 1, or leave it out to look at all rows")


class StratifiedRows(Sampling, frozen=True, kw_only=True, tag="stratified"):
    """A quota for each value of a column, and in each the best rows, or random ones.

    `by` is the column, a field of a struct with points (`json.content_parent_category`); a row without it is of the
    stratum "". `shares`: `equal`, `proportional` to the rows of each, or weights by value (values without one are left
    out). What a stratum cannot give is shared among the others. `rank` are columns of numbers, best first by the
    largest, with `-` before the name by the smallest; equal and absent ones by keyed hash as in `random`.
    """

    by: str
    shares: Literal["equal", "proportional"] | dict[str, float] = "equal"
    rank: tuple[str, ...] = ()
    seed: int | None = None
    scan: int | None = None

    def __post_init__(self) -> None:
        if not self.by or not all(name.removeprefix("-") for name in self.rank):
            raise ValueError("sampling.by and sampling.rank name columns; found an empty name")
        if self.scan is not None and self.scan < 1:
            raise ValueError(f"sampling.scan is {self.scan}; at least 1, or leave it out to look at all rows")
        if isinstance(self.shares, dict):
            if not self.shares or not all(0 <= weight < float("inf") for weight in self.shares.values()):
                raise ValueError("sampling.shares: wanted a number of at least 0 for each value of the column")
            if not any(self.shares.values()):
                raise ValueError("sampling.shares are all 0; at least one must be more")


AnySampling = FirstRows | RandomRows | StratifiedRows
