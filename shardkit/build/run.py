"""Building a dataset, from a spec to a published version: the room's door.

Here: the stages of a build in order, and its result.
Elsewhere: each stage: settle.py, jobs.py, engine_local.py, finish.py; what a build would do (estimate.py).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from shardkit.build.engine_local import LaneFailure, run_lanes
from shardkit.build.estimate import DryRun as DryRun
from shardkit.build.estimate import dry_run as dry_run
from shardkit.build.finish import finish, tidy
from shardkit.build.jobs import lane_view, open_jobs, workers_within
from shardkit.build.lend import at_budget, lend, shortages, still_missing
from shardkit.build.phase import phase
from shardkit.build.plan import Plan, write_plan
from shardkit.build.progress import Done, Event, OnEvent, Planned, Short, Warned
from shardkit.build.quotas import SampleCount, check_sample
from shardkit.build.settle import Commits, Origin, Wish, lane_is_done, settle_plan
from shardkit.errors import (
    NotADataset,
    PartlyDone,
    ShardDamaged,
    ShardkitError,
    SourceChanged,
    SourceDamaged,
    SpecError,
)
from shardkit.spec import BuildSpec
from shardkit.store.layout import POINTER_PATH, Manifest
from shardkit.store.manifest import read_manifest, read_pointer
from shardkit.store.publish import lock, read_commits
from shardkit.store.recovery import recover
from shardkit.store.urls import open_store


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build. `samples` are live ones; `dead_letters` counts refused rows, `duplicates` those left out while
    building, `omitted` those left out across shards. `shortages` are samples that sources lacked of their quotas, of
    which nobody made up for `missing`. `unchanged`: the dataset was complete before.
    """

    dataset: str
    version: str
    samples: int
    dead_letters: int
    shards: int
    bytes: int
    duplicates: int
    omitted: int
    shortages: dict[str, int] = {}
    missing: int = 0
    unchanged: bool = False


def ignore(event: Event) -> None:
    """Show nothing."""


def build(
    spec: BuildSpec,
    *,
    out: Path,
    sample: SampleCount = None,
    workers: int = 1,
    update: bool = False,
    on_event: OnEvent = ignore,
) -> BuildResult:
    """Build the dataset of `spec` in the folder `out`, or go on with what is there.

    `sample`: at most so many samples from every source, or "default" for each source's own number. `workers`
    processes run lanes side by side; with 0 everything happens in this thread. The result does not depend on it.
    `update` lets a changed spec, or changed sources, make a new version that keeps the lanes that did not change.

    Raises SpecError, PlanConflict, Locked, StorageFailed, SourceFailed; PartlyDone where lanes stopped early: calling
    again goes on. Interrupt it any time, by any signal: calling again goes on, to the same version.
    """
    wish = Wish(spec=spec, sample=check_sample(sample), update=update, out=str(out))
    if workers < 0:
        raise SpecError(f"workers is {workers}; 0 runs everything in this process, N starts N processes")
    root = Path(out).absolute()
    with lock(root):
        with phase("planning"):
            commits = recover(root).commits
            plan, origin = settle_plan(root, wish, commits)
        on_event(_planned(out, plan, origin, commits))
        there = _published(root, plan, commits, on_event)
        version, manifest = there or _run(root, plan, wish, workers, commits, on_event)
        commits = {lane.name: read_commits(root, lane.name) for lane in manifest.plan.lanes}
    result = _result(out, version, manifest, commits, unchanged=there is not None)
    on_event(Done(**msgspec.structs.asdict(result)))
    return result


def _published(root: Path, plan: Plan, commits: Commits, on_event: OnEvent) -> tuple[str, Manifest] | None:
    """The folder's current version, where this very plan made it and recovery found nothing missing.

    One that is lost or damaged is made again, as lost shards are. A pointer that is none may be somebody's own file.
    """
    if not (root / POINTER_PATH).exists():
        return None
    try:
        named = read_pointer(open_store(root)).version
    except (NotADataset, ShardDamaged) as error:
        told = f"{error}; move that file away and run the same command again, or build into another folder"
        raise type(error)(told) from None
    try:
        version, manifest = read_manifest(open_store(root))
    except ShardDamaged:
        on_event(Warned(message=f"version {named} is missing or damaged; it is replaced when the lanes are complete"))
        return None
    if manifest.plan_digest != plan.digest or not all(lane_is_done(commits, lane.name) for lane in plan.record.lanes):
        return None
    tidy(root, plan)
    return version, manifest


def _run(root: Path, plan: Plan, wish: Wish, workers: int, commits: Commits, on_event: OnEvent) -> tuple[str, Manifest]:
    allowed = workers_within(wish.spec.limits.memory_bytes, workers)
    if allowed < workers:
        on_event(Warned(message=f"limits.memory_bytes allows {allowed} workers side by side, not {workers}"))
    while True:
        jobs = open_jobs(root, plan, wish.spec, commits, allowed)
        failures = run_lanes(root, jobs, allowed, on_event)
        if failures:
            raise _failed(root, failures, len(plan.record.lanes))
        commits = {lane.name: read_commits(root, lane.name) for lane in plan.record.lanes}
        longer = lend(plan, commits)
        if longer is None:
            break
        plan = longer
        write_plan(root, plan)
        on_event(_planned(Path(wish.out), plan, "lent", commits))
    for source, size in at_budget(plan.record, commits).items():
        on_event(Warned(message=f"source {source} ended with its budget: {size:,} bytes of tar"))
    for short in shortages(plan.record, commits):
        on_event(Short(**msgspec.structs.asdict(short)))
    return finish(root, plan, commits, on_event)


def _failed(root: Path, failures: tuple[LaneFailure, ...], lanes: int) -> ShardkitError:
    """PartlyDone where running again can succeed; else the plainest error, since it may fail the same."""
    kind = PartlyDone if all(failure.passing for failure in failures) else ShardkitError
    told = "\n".join(f"  {failure.lane}: {failure.message}" for failure in failures)
    return kind(
        f"{root}: {len(failures)} of {lanes} lanes stopped early, the others are kept; nothing was published\n{told}\n"
        f"{_next_step(failures)}"
    )


def _next_step(failures: tuple[LaneFailure, ...]) -> str:
    kinds = {failure.kind for failure in failures}
    if kinds == {SourceChanged.__name__}:
        return "add --update to build from the sources as they are now, or put them back and run the same command again"
    if SourceDamaged.__name__ in kinds:
        return "mend what is damaged, then run the same command with --update"
    return "run the same command again to go on"


def _planned(out: Path, plan: Plan, origin: Origin, commits: Commits) -> Planned:
    decisions = [*plan.record.left_out, *(source.decision for source in plan.record.sources if source.decision)]
    left = {lane.source for lane in plan.record.lanes if not lane_is_done(commits, lane.name)}
    pins = [pin for name, pin in plan.pins.items() if name in left and origin == "resumed"]
    rereads = [f"going on reads again {pin.reread}" for pin in pins if pin.reread]
    return Planned(
        dataset=str(out),
        name=plan.record.name,
        plan=plan.digest,
        origin=origin,
        lanes=tuple(lane_view(plan, lane, commits) for lane in plan.record.lanes),
        decisions=tuple(dict.fromkeys([*decisions, *rereads])),
    )


def _result(out: Path, version: str, manifest: Manifest, commits: Commits, unchanged: bool) -> BuildResult:
    lanes = manifest.lanes.values()
    short = shortages(manifest.plan, commits)
    return BuildResult(
        dataset=str(out),
        version=version,
        samples=manifest.totals.samples,
        dead_letters=sum(sum(lane.refused.values()) for lane in lanes),
        shards=manifest.totals.shards,
        bytes=manifest.totals.bytes,
        duplicates=sum(lane.duplicates for lane in lanes),
        omitted=manifest.totals.omitted,
        shortages={one.source: one.missing for one in short},
        missing=still_missing(manifest.plan, commits),
        unchanged=unchanged,
    )
