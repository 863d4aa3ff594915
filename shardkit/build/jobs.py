"""From a plan and its commits to the jobs that are left: where each lane goes on, with how much memory and threads.

Here: jobs, the division of memory among processes and queues.
Elsewhere: plans (plan.py), running jobs (engine_local.py, lane.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from shardkit.build.cutter import LaneJob
from shardkit.build.plan import Plan
from shardkit.build.progress import LaneView
from shardkit.build.settle import Commits, lane_is_done
from shardkit.records.normalize import possible_modalities
from shardkit.records.row import Cursor
from shardkit.spec import AnySource, BuildSpec
from shardkit.store.layout import BUILD_FOLDER, LaneRecord, LaneTotals

PROCESS_BYTES = 100 << 20
"""What a process takes before it holds a row: interpreter and libraries (measured 60 to 95 MiB)."""

LEAST_BYTES = 50 << 20
"""Less than this beside that is too little for a worker."""

QUEUE_SHARE = 8
"""A queue counts bytes as stored; as objects, decoded and in the shard's buffers they take a few times as much."""

MOST_QUEUE_BYTES = 32 << 20
MOST_THREADS = 4


def open_jobs(root: Path, plan: Plan, spec: BuildSpec, commits: Commits, workers: int) -> tuple[LaneJob, ...]:
    """A job for every lane that is not done, in the plan's order, from where its last commit left it."""
    specs = {own.name: own for own in plan.specs}
    left = [lane for lane in plan.record.lanes if not lane_is_done(commits, lane.name)]
    room = spec.limits.memory_bytes - (1 + workers) * PROCESS_BYTES
    queue_bytes = min(MOST_QUEUE_BYTES, max(room, LEAST_BYTES) // max(1, workers) // QUEUE_SHARE)
    jobs = [_job(root, plan, lane, specs[lane.source], commits) for lane in left]
    return tuple(
        msgspec.structs.replace(job, limits=spec.limits, queue_bytes=queue_bytes, threads=_threads(job.spec, workers))
        for job in jobs
    )


def workers_within(memory_bytes: int, workers: int) -> int:
    """How many of the wanted workers fit into the build's memory, beside the parent; at least one."""
    fit = (memory_bytes - PROCESS_BYTES) // (PROCESS_BYTES + LEAST_BYTES)
    return min(workers, max(1, fit))


def lane_view(plan: Plan, lane: LaneRecord, commits: Commits) -> LaneView:
    """A lane for people: what it is to give, as far as is known, and what it has given."""
    rows = plan.pins[lane.source].rows
    known = None if rows is None or lane.after else -(-rows // lane.partitions)
    own = commits.get(lane.name, ())
    return LaneView(
        name=lane.name,
        source=lane.source,
        quota=lane.quota,
        expected=min((bound for bound in (known, lane.quota) if bound is not None), default=None),
        samples=own[-1].totals.samples if own else 0,
        done=lane_is_done(commits, lane.name),
    )


def _job(root: Path, plan: Plan, lane: LaneRecord, spec: AnySource, commits: Commits) -> LaneJob:
    own = commits.get(lane.name, ())
    revision = next(source.revision for source in plan.record.sources if source.name == lane.source)
    return LaneJob(
        root=str(root),
        lane=lane,
        spec=spec,
        revision=revision,
        pins=str(root / BUILD_FOLDER / "sources" / plan.pins[lane.source].folder),
        seed=plan.record.seed,
        cursor=own[-1].cursor if own else _cursor_before(lane, commits),
        totals=own[-1].totals if own else LaneTotals(),
        tar_bytes=sum(commit.shard.tar_bytes for commit in own if commit.shard is not None),
        commits=len(own),
        shards=sum(commit.shard is not None for commit in own),
    )


def _cursor_before(lane: LaneRecord, commits: Commits) -> Cursor | None:
    """Where a lane that goes on behind another one begins; none: where its partition does."""
    own = commits.get(lane.after, ())
    return own[-1].cursor if own else None


def _threads(spec: AnySource, workers: int) -> int | None:
    """Text is quick, and bound by the interpreter: none for the work, and where reading does not wait, none to read.

    A thread that reads beside the one that works costs a third of the rate of chats. Media work leaves the interpreter:
    several.
    """
    if workers == 0 or not spec.waits:
        return None
    if not possible_modalities(spec):
        return 0
    return max(1, min(MOST_THREADS, len(os.sched_getaffinity(0)) // workers))
