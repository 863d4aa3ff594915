"""How many samples, or bytes, each lane gives at most.

Here: which sources take part; quotas from `--sample`, `limit`, `total`, ratios and groups; budgets in bytes.
Elsewhere: which lanes there are (plan.py), keeping to a quota (lane.py), sharing whole numbers (spec.shares).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

import msgspec

from shardkit.errors import SpecError
from shardkit.spec import AnySource, BuildSpec
from shardkit.spec.shares import share, weight_of

SampleCount = int | Literal["default"] | None
"""`--sample`: a number for every source, each source's own number, or a full build."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds a source: samples and bytes of tar (none: all that it has).

    `lends` is how many samples more it may give to make up for others (none: any number); 0 where none are asked for.
    """

    quota: int | None
    budget: int | None = None
    lends: int | None = 0


def check_sample(sample: object) -> SampleCount:
    """`--sample` as it came, if it means something; else SpecError."""
    if sample is None or sample == "default" or (isinstance(sample, int) and 1 <= sample < 1 << 63):
        return sample
    raise SpecError(
        f"sample is {sample!r}; give a number of at least 1 and at most 63 bits, `default`, or nothing for a full build"
    )


def bounded(spec: BuildSpec, **bounds: int | bool | None) -> BuildSpec:
    """A spec with what the command says of `total`, `budget_bytes`, `borrow`, `content_warnings` (none: nothing)."""
    given = {name: value for name, value in bounds.items() if value is not None}
    if not given:
        return spec
    try:
        found = msgspec.structs.replace(spec, **given)
    except ValueError as error:
        raise SpecError(str(error)) from None
    if found.borrow and found.total is None:
        raise SpecError("borrow has no meaning without a total: sources lack nothing then; add --total N")
    return found


def sources_taken(spec: BuildSpec) -> tuple[AnySource, ...]:
    """The sources that take part: those with a content warning only where the build asks for them. Raises SpecError.

    The same holds for fallbacks: what is not asked for is not taken in place of another either.
    """
    if spec.content_warnings:
        return spec.sources
    taken = tuple(_unwarned(source) for source in spec.sources if not source.content_warning)
    if not taken:
        told = "; ".join(f"{source.name}: {source.content_warning.rstrip('.')}" for source in spec.sources)
        raise SpecError(
            f"every source has a content warning ({told}); build with --with-content-warnings, or name another source"
        )
    return taken


def left_out(spec: BuildSpec) -> tuple[str, ...]:
    """Why sources do not take part, in words."""
    return tuple(
        f"{source.name} is left out for its content: {source.content_warning.rstrip('.')}; "
        "take it with --with-content-warnings"
        for first in spec.sources
        for source in (first, *(() if first.content_warning else fallbacks(first)))
        if source.content_warning and not spec.content_warnings
    )


def fallbacks(source: AnySource) -> Iterator[AnySource]:
    """What may be taken in place of a source, in order."""
    while source.fallback is not None:
        source = source.fallback
        yield source


def _unwarned(source: AnySource) -> AnySource:
    """A source without those of its fallbacks that have a content warning."""
    if not any(fallback.content_warning for fallback in fallbacks(source)):
        return source
    kept: AnySource | None = None
    for fallback in reversed([*fallbacks(source)]):
        if not fallback.content_warning:
            kept = msgspec.structs.replace(fallback, fallback=kept)
    return msgspec.structs.replace(source, fallback=kept)


def source_bounds(spec: BuildSpec, sample: SampleCount) -> tuple[Bound, ...]:
    """What bounds each source that takes part, in the order of the spec."""
    sources = sources_taken(spec)
    quotas, lends = _quotas(spec, sources, sample), [0] * len(sources)
    budgets = _least([source.budget_bytes for source in sources], _shared(spec, sources, spec.budget_bytes))
    room: list[int | None] = list(lends)
    if spec.borrow and sample is None and spec.total is not None:
        room = [None if source.limit is None else source.limit - (quota or 0)
                for source, quota in zip(sources, quotas, strict=True)]  # fmt: skip
    return tuple(
        Bound(quota=quota, budget=budget, lends=more) for quota, budget, more in zip(quotas, budgets, room, strict=True)
    )


def lane_parts(whole: int | None, partitions: int) -> tuple[int | None, ...]:
    """A source's quota or budget shared among its partitions."""
    return (None,) * partitions if whole is None else share(whole, [Fraction(1)] * partitions)


def source_weights(spec: BuildSpec, sources: Sequence[AnySource]) -> list[Fraction]:
    """The sources' shares: of a group's ratio where there are groups; equal ones where no ratio is given."""
    own = [Fraction(1) if source.ratio is None else weight_of(source.ratio) for source in sources]
    if not spec.groups:
        return own
    sums: dict[str, Fraction] = {}
    for source, weight in zip(sources, own, strict=True):
        sums[source.group] = sums.get(source.group, Fraction(0)) + weight
    return [
        weight_of(spec.groups[source.group]) * weight / sums[source.group]
        for source, weight in zip(sources, own, strict=True)
    ]


def _quotas(spec: BuildSpec, sources: Sequence[AnySource], sample: SampleCount) -> list[int | None]:
    if sample is not None:
        return [source.sample if sample == "default" else sample for source in sources]
    return _least([source.limit for source in sources], _shared(spec, sources, spec.total))


def _shared(spec: BuildSpec, sources: Sequence[AnySource], total: int | None) -> Sequence[int | None]:
    return [None] * len(sources) if total is None else share(total, source_weights(spec, sources))


def _least(own: Sequence[int | None], given: Sequence[int | None]) -> list[int | None]:
    """Of two bounds of each source the smaller one."""
    return [min((bound for bound in pair if bound is not None), default=None) for pair in zip(own, given, strict=True)]
