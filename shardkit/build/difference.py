"""Differences between two plans, as lines that a person can read.

Here: comparing plan records and toolchains.
Elsewhere: making plans (plan.py), what follows from a difference (settle.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shardkit.store.layout import LaneRecord, PlanRecord, SourceRecord

SHOWN = 60
"""Characters of a value that a line shows."""


def diff_plans(old: PlanRecord, new: PlanRecord) -> tuple[str, ...]:
    """One line for each thing that differs: `+` is new, `-` is gone, else `field: old -> new`. Empty: the same."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [*before, *(name for name in after if name not in before)]
    return tuple(_line(name, before, after) for name in names if before.get(name) != after.get(name))


def diff_toolchains(found: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each component that differs, naming what was found and what is wanted."""
    names = sorted({*found, *wanted})
    return tuple(
        f"{name}: found {found.get(name, 'none')}, wanted {wanted.get(name, 'none')}"
        for name in names
        if found.get(name) != wanted.get(name)
    )


def _line(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if name not in before:
        return f"+ {name}: {_shown(after[name])}"
    if name not in after:
        return f"- {name}: {_shown(before[name])}"
    return f"  {name}: {_shown(before[name])} -> {_shown(after[name])}"


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _flat(plan: PlanRecord) -> Iterator[tuple[str, str]]:
    yield from _values("", {"name": plan.name, "seed": plan.seed, "duplicates": plan.duplicates})
    yield from _values("limits.", plan.limits)
    yield "order of sources", ", ".join(source.name for source in plan.sources)
    for source in plan.sources:
        yield from _source(source)
    for lane in plan.lanes:
        part = f"{lane.source}, partition {lane.partition + 1} of {lane.partitions}"
        yield f"lane {part}", "all samples" if lane.quota is None else f"at most {lane.quota} samples"
        yield from _lane_bounds(f"lane {part}", lane)
    yield from ((f"left out {at}", told) for at, told in enumerate(plan.left_out, 1))


def _lane_bounds(where: str, lane: LaneRecord) -> Iterator[tuple[str, str]]:
    if lane.budget is not None:
        yield f"{where}, budget", f"at most {lane.budget} bytes"
    if lane.chosen is not None:
        yield f"{where}, sampling", f"{lane.chosen} rows chosen"
    if lane.lends != 0:
        yield f"{where}, borrow", "lends what others lack"


def _source(source: SourceRecord) -> Iterator[tuple[str, str]]:
    where = f"source {source.name}"
    yield where, source.kind
    yield from _values(f"{where}: ", source.config)
    yield from _values(f"{where}: toolchain ", source.toolchain)
    if source.held_out:
        yield f"{where}: held out", "kept apart from training"
    if source.revision:
        yield f"{where}: revision", source.revision


def _values(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _values(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", msgspec.json.encode(value).decode()
