"""Shortages: sources that have fewer samples than their quota, and others that give more in their place.

Here: what is short, from the plan and the lanes' last commits; the lanes that make up for it.
Elsewhere: running those (run.py), quotas (quotas.py), showing shortages (progress.py, status.py).

Lending goes in rounds. When all lanes have ended, what is missing is divided among the sources that met their quotas,
in the ratio of these, as lanes that go on where theirs ended; they are written into the plan and run; and again, until
nothing is missing or nobody has more. Each round is a function of the plan and of the commits of lanes that have ended,
so a build that is killed comes to the same rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import msgspec

from shardkit.build.plan import Plan, named_lane
from shardkit.build.settle import Commits
from shardkit.spec.shares import share_within
from shardkit.store.layout import Commit, LaneRecord, PlanRecord


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """A source that gave fewer samples than its quota; `missing` is the difference."""

    source: str
    quota: int
    samples: int
    missing: int


def shortages(plan: PlanRecord, commits: Commits) -> tuple[Shortage, ...]:
    """The sources whose rows did not suffice for their quotas, in the order of the plan.

    One that ended because of its budget is not short, nor is one with a lane that has not ended.
    """
    found = []
    for source in plan.sources:
        own = [lane for lane in plan.lanes if lane.source == source.name and not lane.after]
        if all(_is_done(commits.get(lane.name, ())) for lane in own):
            short = [(lane, given(commits.get(lane.name, ()))) for lane in own if _ran_out(lane, commits)]
            missing = sum((lane.quota or 0) - samples for lane, samples in short)
            if missing:
                quota = sum(lane.quota or 0 for lane in own)
                samples = sum(given(commits.get(lane.name, ())) for lane in own)
                found.append(Shortage(source=source.name, quota=quota, samples=samples, missing=missing))
    return tuple(found)


def at_budget(plan: PlanRecord, commits: Commits) -> dict[str, int]:
    """Sources of which a lane ended with its budget, and how many bytes of tar they gave in all."""
    ended = [lane for lane in plan.lanes if lane.budget and tar_bytes(commits.get(lane.name, ())) >= lane.budget]
    names = dict.fromkeys(lane.source for lane in ended)
    return {
        name: sum(tar_bytes(commits.get(lane.name, ())) for lane in plan.lanes if lane.source == name) for name in names
    }


def still_missing(plan: PlanRecord, commits: Commits) -> int:
    """How many samples nobody has made up for."""
    lent = sum(given(commits.get(lane.name, ())) for lane in plan.lanes if lane.after)
    return sum(short.missing for short in shortages(plan, commits)) - lent


def lend(plan: Plan, commits: Commits) -> Plan | None:
    """The plan with the lanes of the next round, where all its lanes have ended; None where no round follows."""
    record = plan.record
    missing = still_missing(record, commits)
    lenders = _lenders(record, commits)
    room = {name: _room(lanes, missing) for name, lanes in lenders.items()}
    weights = {name: _weight(record, name) for name in lenders}
    lent = share_within(missing, weights, room) if missing > 0 else {}
    lanes = tuple(
        named_lane(lane, record) for name, extra in lent.items() if extra for lane in _go_on(lenders[name], extra)
    )
    if not lanes:
        return None
    return msgspec.structs.replace(plan, record=msgspec.structs.replace(record, lanes=(*record.lanes, *lanes)))


def given(commits: Sequence[Commit]) -> int:
    """Samples of a lane as committed."""
    return commits[-1].totals.samples if commits else 0


def tar_bytes(commits: Iterable[Commit]) -> int:
    """Bytes of (uncompressed) tar of a lane as committed."""
    return sum(commit.shard.tar_bytes for commit in commits if commit.shard is not None)


def _lenders(record: PlanRecord, commits: Commits) -> dict[str, list[LaneRecord]]:
    """By source: the last lanes of its partitions that met their quotas and may give more."""
    gone_on = {lane.after for lane in record.lanes}
    found: dict[str, list[LaneRecord]] = {}
    for lane in record.lanes:
        if lane.name not in gone_on and lane.lends != 0 and given(commits.get(lane.name, ())) == lane.quota:
            found.setdefault(lane.source, []).append(lane)
    return found


def _room(lanes: Sequence[LaneRecord], missing: int) -> int:
    """How many samples lanes may lend, as far as is known."""
    return sum(missing if lane.lends is None else lane.lends for lane in lanes)


def _weight(record: PlanRecord, source: str) -> Fraction:
    """Sources lend in the ratio of their quotas; one whose quota was rounded to nothing lends the least."""
    quota = sum(lane.quota or 0 for lane in record.lanes if lane.source == source and not lane.after)
    return Fraction(quota) if quota else Fraction(1, 1 << 20)


def _go_on(lanes: Sequence[LaneRecord], extra: int) -> list[LaneRecord]:
    """Lanes behind those of a source, which give so many samples more."""
    room = {lane.name: extra if lane.lends is None else lane.lends for lane in lanes}
    parts = share_within(extra, dict.fromkeys(room, Fraction(1)), room)
    return [
        msgspec.structs.replace(
            lane,
            name="",
            quota=parts[lane.name],
            lends=None if lane.lends is None else lane.lends - parts[lane.name],
            after=lane.name,
        )
        for lane in lanes
        if parts[lane.name]
    ]


def _ran_out(lane: LaneRecord, commits: Commits) -> bool:
    """Whether a lane ended because its rows did."""
    own = commits.get(lane.name, ())
    if lane.quota is None or given(own) >= lane.quota:
        return False
    return lane.budget is None or tar_bytes(own) < lane.budget


def _is_done(own: Sequence[Commit]) -> bool:
    return bool(own) and own[-1].done
