"""One lane: rows of a partition become samples, samples become shards, shards become commits.

Here: reading with retries, choosing rows, normalising, preparing.
Elsewhere: threads between the steps (pool.py), cutting shards (cutter.py), linking and committing (engine_local.py).

What a lane produces depends on its job's source, limits and quota, and on nothing else: not on threads, timing or
where it was resumed. A shard ends when it holds `shard_bytes` or `shard_samples`, or when its dead letters are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from shardkit.build.cutter import Cutter, LaneJob, Outlet
from shardkit.build.phase import phase
from shardkit.build.pool import BATCH_BYTES, BATCH_ROWS, Bounds, Line, Outcome, Refusal, step_bytes
from shardkit.errors import Refused, SourceChanged, SourceDamaged, SourceFailed
from shardkit.media.prepare import prepare
from shardkit.records.normalize import normalize
from shardkit.records.row import Cursor, Prepared
from shardkit.records.rules import apply_rules
from shardkit.sources.base import BadRow, Passed, Source, Step
from shardkit.sources.gather import gathered
from shardkit.sources.sampling import Sampled
from shardkit.sources.table import open_source

ATTEMPTS = 4
"""A source that fails is tried so often without a row in between, and at most ten times as often in all."""

FIRST_DELAY = 0.25


def run_lane(job: LaneJob, outlet: Outlet) -> None:
    """Run a lane from its cursor to its end.

    Raises SourceFailed where the source cannot be read now; what is committed stays, the open shard is thrown away.
    """
    cutter = Cutter(job, outlet)
    quota = job.lane.quota
    wanted = None if quota is None else quota - job.totals.samples
    try:
        if not cutter.is_complete():
            _fill(job, cutter, wanted)
        cutter.cut(done=True)
    finally:
        cutter.abandon()


def open_lane(job: LaneJob) -> Source:
    """The lane's source, or the rows of it that its sampling chooses: looking for them comes first."""
    source, lane, spec = open_source(job.spec, job.seed, job.limits), job.lane, job.spec
    if lane.chosen is None:
        return gathered(source, spec)
    whole = gathered(source, spec) if spec.gather else source  # without, rows are filtered when they are looked at
    sampled = Sampled(whole, spec, job.seed, count=lane.chosen, revision=job.revision)
    with phase("reading"):
        sampled.prepare(Path(job.pins), lane.partition, lane.partitions, job.cursor)
    return sampled


def _fill(job: LaneJob, cutter: Cutter, wanted: int | None) -> None:
    source = open_lane(job)
    steps = read_steps(source, job, time.sleep)
    bounds = Bounds(max_bytes=job.queue_bytes, threads=job.threads or 0, wait_seconds=job.wait_seconds, samples=wanted)
    rows: Line | Inline = (
        Inline(steps, job, wanted) if job.threads is None else Line(steps, lambda step: work(step, job), bounds)
    )
    with rows:
        for outcomes in rows.batches():
            rows.give_back(cutter.add(outcomes))
            if cutter.is_complete():
                return


class Inline:
    """The same as a Line, in the caller's thread. No more rows are read than could be needed."""

    def __init__(self, steps: Generator[Step, None, None], job: LaneJob, samples: int | None) -> None:
        self._steps, self._job, self._wanted = steps, job, samples

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()

    def batches(self) -> Generator[list[Outcome], None, None]:
        """Outcomes of some rows together; an error comes after the rows before it."""
        while self._wanted is None or self._wanted > 0:
            outcomes: list[Outcome] = []
            failed: Exception | None = None
            ended = False
            try:
                ended = self._read(outcomes)
            except Exception as error:
                failed = error
            if self._wanted is not None:
                self._wanted -= len(outcomes)
            if outcomes:
                yield outcomes
            if failed is not None:
                raise failed
            if ended:
                return

    def _read(self, outcomes: list[Outcome]) -> bool:
        """Fill a batch; whether there are no more rows."""
        room = BATCH_ROWS if self._wanted is None else min(BATCH_ROWS, self._wanted)
        size = 0
        for step in self._steps:
            outcomes.append(work(step, self._job))
            size += step_bytes(step)
            if len(outcomes) == room or size >= BATCH_BYTES:
                return False
        return True

    def give_back(self, rows: int) -> None:
        """So many rows became no samples: as many more may be read."""
        if self._wanted is not None:
            self._wanted += rows


def read_steps(source: Source, job: LaneJob, sleep: Callable[[float], None]) -> Generator[Step, None, None]:
    """Rows of the lane's partition behind its cursor. A transient failure is tried again, where it happened."""
    cursor = job.cursor
    failures = in_all = 0
    while True:
        try:
            with closing(_rows(source, job, cursor)) as steps:
                for step in steps:
                    cursor, failures = step.cursor, 0
                    yield step
                return
        except (SourceChanged, SourceDamaged):
            raise
        except SourceFailed:
            failures, in_all = failures + 1, in_all + 1
            if failures >= ATTEMPTS or in_all >= 10 * ATTEMPTS:
                raise
            sleep(FIRST_DELAY * 2**failures)


def _rows(source: Source, job: LaneJob, cursor: Cursor | None) -> Generator[Step, None, None]:
    rows = source.rows(Path(job.pins), job.lane.partition, job.lane.partitions, cursor)
    try:
        while True:
            with phase("reading"):
                step = next(rows, None)
            if step is None:
                return
            yield step
    except OSError as error:
        raise SourceFailed(f"source {job.spec.name}: {error.strerror}; run again") from error
    finally:
        if isinstance(rows, Generator):
            rows.close()


def work(step: Step, job: LaneJob) -> Outcome:
    """Normalise a row and prepare its media. A pure function of both."""
    row = step.row
    result: Prepared | Refusal | Passed
    if isinstance(row, BadRow):
        result = Refusal(row.reason, row.detail)
    elif isinstance(row, Passed):
        result = row
    else:
        try:
            with phase("media"):
                draft = normalize(row, job.spec, job.revision, job.limits)
                draft = draft if job.spec.rules is None else apply_rules(draft, job.spec.rules)
                result = prepare(draft, job.spec.media, job.limits)
        except Refused as refused:
            result = Refusal(refused.reason, refused.detail)
        except Exception as error:
            error.add_note(f"source {job.spec.name}, row {row.position}")
            raise
    return Outcome(position=row.position, cursor=step.cursor, result=result)
