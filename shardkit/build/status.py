"""The state of a build, told from the records that a resume reads.

Here: what `shardkit status` prints, also while the build runs.
Elsewhere: events while it runs (progress.py), figures of a published version (report.stats).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shardkit.build.lend import Shortage, at_budget, shortages
from shardkit.build.plan import read_plan
from shardkit.errors import NotADataset
from shardkit.store.layout import BUILD_FOLDER, Commit, LaneRecord
from shardkit.store.manifest import read_pointer
from shardkit.store.publish import read_commits
from shardkit.store.urls import open_store


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lane as committed. `bytes` are those of its shards' files; `quota` none means all that the source has."""

    name: str
    source: str
    quota: int | None
    rows: int
    samples: int
    duplicates: int
    refused: dict[str, int]
    filtered: int
    shards: int
    bytes: int
    done: bool


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A build folder's state. `running`: a process builds there now. `version` is the published one, if any.

    `complete`: every lane of the plan is done. `shortages` and `at_budget` (bytes of tar by source) say which sources
    gave less than was wanted, and why.
    """

    dataset: str
    name: str
    plan: str
    version: str | None
    running: bool
    complete: bool
    samples: int
    bytes: int
    lanes: tuple[LaneStatus, ...]
    decisions: tuple[str, ...] = ()
    shortages: tuple[Shortage, ...] = ()
    at_budget: dict[str, int] = {}

    def text(self) -> str:
        """The same as a table for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        state = "running" if self.running else "complete" if self.complete else "stopped; run the same build to go on"
        yield f"{self.dataset}: {self.name}, plan {self.plan[:12]}, {state}"
        yield f"version: {self.version or 'none published yet'}"
        yield from (f"note: {decision}" for decision in self.decisions)
        width = max([len(lane.name) for lane in self.lanes], default=4)
        yield f"{'lane':<{width}}  {'samples':>10}  {'quota':>10}  {'shards':>6}  {'MiB':>9}  {'dup':>6}  state"
        for lane in self.lanes:
            quota = "all" if lane.quota is None else f"{lane.quota:,}"
            refused = ", ".join(f"{count:,} {reason}" for reason, count in lane.refused.items())
            passed = f"; passed over: {lane.filtered:,}" if lane.filtered else ""
            state = ("done" if lane.done else "open") + passed + (f"; refused: {refused}" if refused else "")
            yield (
                f"{lane.name:<{width}}  {lane.samples:>10,}  {quota:>10}  {lane.shards:>6,}  "
                f"{lane.bytes / 2**20:>9,.1f}  {lane.duplicates:>6,}  {state}"
            )
        for source, size in self.at_budget.items():
            yield f"{source} ended with its budget: {size:,} bytes of tar"
        for short in self.shortages:
            yield f"{short.source} is short of its quota: {short.samples:,} samples of {short.quota:,}, it has no more"
        yield f"in all: {self.samples:,} samples, {self.bytes / 2**20:,.1f} MiB"


def read_status(dataset: Path) -> Status:
    """The state of the build in a folder. Raises NotADataset where none was begun, ShardDamaged, StorageFailed."""
    stored = read_plan(dataset)
    if stored is None:
        raise NotADataset(f"{dataset} holds no build: found no {BUILD_FOLDER}/plan.json; give the folder of a build")
    commits = {lane.name: read_commits(dataset, lane.name) for lane in stored.plan.lanes}
    lanes = tuple(_lane(lane, commits[lane.name]) for lane in stored.plan.lanes)
    try:
        version = read_pointer(open_store(dataset)).version
    except NotADataset:
        version = None
    return Status(
        dataset=str(dataset),
        name=stored.plan.name,
        plan=stored.plan_digest,
        version=version,
        running=_is_locked(dataset / BUILD_FOLDER / "lock"),
        complete=all(lane.done for lane in lanes),
        samples=sum(lane.samples for lane in lanes),
        bytes=sum(lane.bytes for lane in lanes),
        lanes=lanes,
        decisions=(*stored.plan.left_out, *(source.decision for source in stored.plan.sources if source.decision)),
        shortages=shortages(stored.plan, commits),
        at_budget=at_budget(stored.plan, commits),
    )


def _lane(lane: LaneRecord, commits: tuple[Commit, ...]) -> LaneStatus:
    last = commits[-1] if commits else None
    shards = [commit.shard for commit in commits if commit.shard is not None]
    return LaneStatus(
        name=lane.name,
        source=lane.source,
        quota=lane.quota,
        rows=last.totals.rows if last else 0,
        samples=last.totals.samples if last else 0,
        duplicates=last.totals.duplicates if last else 0,
        refused=last.totals.refused if last else {},
        filtered=last.totals.filtered if last else 0,
        shards=len(shards),
        bytes=sum(entry.shard.bytes for entry in shards),
        done=last.done if last else False,
    )


def _is_locked(path: Path) -> bool:
    """Whether somebody holds the lock; trying for a shared one disturbs nobody but a build that begins just then."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
