"""How many samples each lane gives at most.

Here: quotas from `--sample`, `limit`, `total` and ratios; sharing whole numbers by largest remainder.
Elsewhere: which lanes there are (plan.py), keeping to a quota (lane.py).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from shardkit.errors import SpecError
from shardkit.spec import BuildSpec
from shardkit.spec.shares import share, weight_of

SampleCount = int | Literal["default"] | None
"""`--sample`: a number for every source, each source's own number, or a full build."""


def check_sample(sample: object) -> SampleCount:
    """`--sample` as it came, if it means something; else SpecError."""
    if sample is None or sample == "default" or (isinstance(sample, int) and 1 <= sample < 1 << 63):
        return sample
    raise SpecError(
        f"sample is {sample!r}; give a number of at least 1 and at most 63 bits, `default`, or nothing for a full build"
    )


def source_quotas(spec: BuildSpec, sample: SampleCount) -> tuple[int | None, ...]:
    """At most how many samples each source gives, in the order of the spec (none: all that it has)."""
    if sample is not None:
        return tuple(source.sample if sample == "default" else sample for source in spec.sources)
    if spec.total is None:
        return tuple(source.limit for source in spec.sources)
    shares = share(spec.total, [weight_of(source.ratio or 0) for source in spec.sources])
    limits = [source.limit for source in spec.sources]
    return tuple(given if limit is None else min(given, limit) for given, limit in zip(shares, limits, strict=True))


def lane_quotas(quota: int | None, partitions: int) -> tuple[int | None, ...]:
    """A source's quota shared among its partitions."""
    return (None,) * partitions if quota is None else share(quota, [Fraction(1)] * partitions)
