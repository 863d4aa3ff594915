"""What a build would do: its plan, and an estimate of disk and time from a few measured rows.

Here: `--dry-run`. Nothing is written to the target folder.
Elsewhere: plans (plan.py), building (run.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from shardkit.build.cutter import LaneJob
from shardkit.build.jobs import lane_view
from shardkit.build.lane import read_steps, work
from shardkit.build.plan import Plan, make_plan
from shardkit.build.pool import Outcome, step_bytes
from shardkit.build.progress import LaneView
from shardkit.build.quotas import SampleCount, check_sample
from shardkit.records.row import Prepared, Row
from shardkit.records.sample import encode_sample
from shardkit.sources.base import Passed, Step
from shardkit.sources.gather import gathered
from shardkit.sources.table import open_source
from shardkit.spec import BuildSpec, Limits
from shardkit.store.layout import LaneRecord
from shardkit.store.tar import stored_bytes

MEASURED_ROWS = 4
MEASURED_SECONDS = 5.0
"""Rows measured of each source at most, and for how long at most."""

PACKED = 4
"""How many times more a compressed source is guessed to be when it is unpacked."""

INDEX_BYTES = 160
"""Of an index per sample with one member, measured."""


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A source as planned, and what it is estimated to take: bytes of uncompressed tar, seconds on one core."""

    name: str
    kind: str
    revision: str
    toolchain: dict[str, str]
    decision: str
    rows: int | None
    samples: int | None
    bytes: int | None
    seconds: float | None


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a build would do. `bytes` and `seconds` are estimates (none: unknown), before compression."""

    dataset: str
    name: str
    plan: str
    workers: int
    sources: tuple[SourceView, ...]
    lanes: tuple[LaneView, ...]
    bytes: int | None
    seconds: float | None

    def text(self) -> str:
        """The same as lines for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.dataset}: plan {self.plan[:12]} of {self.name}; nothing was written"
        for source in self.sources:
            yield f"source {source.name} ({source.kind}), revision {source.revision[:16]}"
            yield f"  tools: {', '.join(f'{name} {version}' for name, version in source.toolchain.items())}"
            if source.decision:
                yield f"  note: {source.decision}"
            yield f"  estimate: {_count(source.samples)} samples, {_size(source.bytes)}, {_duration(source.seconds)}"
        for lane in self.lanes:
            quota = "all samples" if lane.quota is None else f"at most {lane.quota:,} samples"
            yield f"lane {lane.name}: {quota}"
        yield f"estimate for all: {_size(self.bytes)} of disk, {_duration(self.seconds)} with {self.workers} workers"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the rows that were measured: bytes in the tar, bytes as read, seconds of work."""

    tar_bytes: float
    row_bytes: float
    seconds: float


def dry_run(spec: BuildSpec, *, out: Path, sample: SampleCount = None, workers: int = 1) -> DryRun:
    """Plan a build in a temporary folder and estimate what it takes. Raises SpecError, SourceFailed."""
    with tempfile.TemporaryDirectory(prefix="shardkit-plan-") as name:
        folder = Path(name)
        plan = make_plan(spec, sample=check_sample(sample), folder=folder)
        views = tuple(_view(plan, at, folder, spec.limits) for at in range(len(plan.specs)))
    abreast = max(1, min(workers, len(plan.record.lanes)))
    seconds = _sum(view.seconds for view in views)
    return DryRun(
        dataset=str(out),
        name=spec.name,
        plan=plan.digest,
        workers=workers,
        sources=views,
        lanes=tuple(lane_view(plan, lane, {}) for lane in plan.record.lanes),
        bytes=_whole(_sum(view.bytes for view in views)),
        seconds=None if seconds is None else seconds / abreast,
    )


def _view(plan: Plan, at: int, folder: Path, limits: Limits) -> SourceView:
    record, spec = plan.record.sources[at], plan.specs[at]
    pin = plan.pins[record.name]
    lane = LaneRecord(name="dry-run", source=record.name, partition=0, partitions=1)
    measured = _measure(
        LaneJob(
            root="",
            lane=lane,
            spec=spec,
            revision=record.revision,
            pins=str(folder / pin.folder),
            seed=plan.record.seed,
            limits=limits,
        )
    )
    rows = pin.rows
    if rows is None and pin.bytes is not None and measured is not None:
        rows = max(1, round(pin.bytes * (PACKED if pin.reread else 1) / measured.row_bytes))
    quotas = [lane.quota for lane in plan.record.lanes if lane.source == record.name]
    quota = None if None in quotas else sum(quota or 0 for quota in quotas)
    samples = min((bound for bound in (rows, quota) if bound is not None), default=None)
    known = measured is not None and samples is not None
    return SourceView(
        name=record.name,
        kind=record.kind,
        revision=record.revision,
        toolchain=record.toolchain,
        decision=record.decision,
        rows=pin.rows,
        samples=samples,
        bytes=round(samples * (measured.tar_bytes + INDEX_BYTES)) if known and samples and measured else None,
        seconds=samples * measured.seconds if known and samples and measured else None,
    )


def _measure(job: LaneJob) -> Measured | None:
    """Do the first rows of a source as a lane would; those that are not wanted are not measured."""
    begun = time.monotonic()
    outcomes, read = [], 0
    source = gathered(open_source(job.spec, job.seed, job.limits), job.spec)
    with closing(read_steps(source, job, time.sleep)) as steps:
        for step in steps:
            if not isinstance(step.row, Passed):
                outcomes.append(work(step, job))
                read += _file_bytes(step)
            if len(outcomes) == MEASURED_ROWS or time.monotonic() - begun > MEASURED_SECONDS:
                break
    if not outcomes:
        return None
    seconds = (time.monotonic() - begun) / len(outcomes)
    sizes = [size for size in map(_tar_bytes, outcomes) if size]
    return Measured(
        tar_bytes=sum(sizes) / len(sizes) if sizes else 0.0, row_bytes=read / len(outcomes), seconds=seconds
    )


def _file_bytes(step: Step) -> int:
    """About how many bytes of its file a row took: as JSON, which it is in the sources that do not count their rows."""
    if not isinstance(step.row, Row):
        return step_bytes(step)
    return len(msgspec.json.encode(step.row.fields)) + 1 + sum(map(len, step.row.blobs.values()))


def _tar_bytes(outcome: Outcome) -> int:
    result = outcome.result
    if not isinstance(result, Prepared):
        return 0
    return (
        stored_bytes(len(encode_sample(result.sample)))
        + sum(stored_bytes(len(member.data)) for member in result.members)
        + 512 * (1 + len(result.members))
    )


def _sum(values: Iterator[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "unknown bytes" if value is None else f"about {value / 2**20:,.1f} MiB"


def _duration(value: float | None) -> str:
    return "unknown time" if value is None else f"about {value:,.0f} s" if value >= 1 else "under 1 s"
