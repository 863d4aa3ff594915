"""One lane: rows of a partition become samples, samples become shards, shards become commits.

Here: reading with retries, normalising, preparing, cutting shards, dead letters, the drafts of commits.
Elsewhere: threads between the steps (pool.py), linking and committing (engine_local.py), the order on disk (store).

What a lane produces depends on its job's source, limits and quota, and on nothing else: not on threads, timing or
where it was resumed. A shard ends when it holds `shard_bytes` or `shard_samples`, or when its dead letters are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import msgspec

from shardkit.build.phase import phase
from shardkit.build.pool import Bounds, Line, Outcome, Refusal
from shardkit.errors import Refused, SourceChanged, SourceDamaged, SourceFailed
from shardkit.media.prepare import prepare
from shardkit.records.normalize import normalize
from shardkit.records.row import Cursor, Prepared
from shardkit.records.rules import apply_rules
from shardkit.sources.base import BadRow, Passed, Source, Step
from shardkit.sources.gather import gathered
from shardkit.sources.sampling import Sampled
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, Limits
from shardkit.store.layout import DeadLetter, LaneRecord, LaneTotals
from shardkit.store.shard import ShardWriter, StagedShard

LETTERS = 20_000
LETTER_BYTES = 2 << 20
"""Dead letters that a commit holds at most: they are kept in memory until then."""

ATTEMPTS = 4
"""A source that fails is tried so often without a row in between, and at most ten times as often in all."""

FIRST_DELAY = 0.25
PROGRESS_SECONDS = 0.25


class LaneJob(msgspec.Struct, frozen=True, kw_only=True):
    """All that running a lane takes, from where its last commit left it. Crosses to other processes.

    `pins` is the source's private folder; `tar_bytes` are those of the lane's shards so far. `queue_bytes` bounds what
    is under way; `threads` work on media, 0: all in the caller's thread. `wait_seconds` is how long reading or work may
    make no progress.
    """

    root: str
    lane: LaneRecord
    spec: AnySource
    revision: str
    pins: str
    seed: int
    limits: Limits = Limits()
    cursor: Cursor | None = None
    totals: LaneTotals = LaneTotals()
    commits: int = 0
    shards: int = 0
    tar_bytes: int = 0
    queue_bytes: int = 8 << 20
    threads: int = 0
    wait_seconds: float = 900.0


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane asks to be committed: a staged shard, dead letters, how far it has come."""

    lane: str
    number: int
    staged: StagedShard | None
    letters: tuple[DeadLetter, ...]
    cursor: Cursor | None
    totals: LaneTotals
    done: bool


class Outlet(Protocol):
    """Where a lane's results go."""

    def commit(self, draft: Draft) -> None:
        """Publish and commit, or hand on to whoever does; may wait."""
        ...

    def progress(self, totals: LaneTotals, shard_bytes: int) -> None:
        """Totals with the open shard's samples included, and its bytes. Called a few times a second."""
        ...


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
    bounds = Bounds(max_bytes=job.queue_bytes, threads=job.threads, wait_seconds=job.wait_seconds, samples=wanted)
    rows: Line | Inline = Inline(steps, job) if job.threads == 0 else Line(steps, lambda step: work(step, job), bounds)
    with rows:
        for outcome in rows:
            if not cutter.add(outcome):
                rows.give_back()
            elif cutter.is_complete():
                return


class Inline:
    """The same as a Line, in the caller's thread."""

    def __init__(self, steps: Generator[Step, None, None], job: LaneJob) -> None:
        self._steps, self._job = steps, job

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()

    def __iter__(self) -> Generator[Outcome, None, None]:
        for step in self._steps:
            yield work(step, self._job)

    def give_back(self) -> None:
        """Nothing is read ahead here."""


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


class Cutter:
    """The lane's consumer: adds samples to the open shard and cuts it when it is full."""

    def __init__(self, job: LaneJob, outlet: Outlet) -> None:
        self._job, self._outlet = job, outlet
        self._writer: ShardWriter | None = None
        self._letters: list[DeadLetter] = []
        self._letter_bytes = 0
        self._cursor, self._number, self._shards = job.cursor, job.commits, job.shards
        self._totals, self._refused = job.totals, dict(job.totals.refused)
        self._rows, self._duplicates = job.totals.rows, job.totals.duplicates
        self._sealed_bytes = job.tar_bytes
        self._filtered = job.totals.filtered
        self._shown = 0.0
        self._ended = False
        self.samples = 0
        """Samples added since this lane was opened."""

    def add(self, outcome: Outcome) -> bool:
        """Take one row's outcome; whether it became a sample."""
        before, self._cursor = self._cursor, outcome.cursor
        if isinstance(outcome.result, Passed):
            self._rows += outcome.result.count
            self._filtered += outcome.result.count
            self._show()
            return False
        self._rows += 1
        added = self._store(outcome, before)
        self.samples += added
        if self._is_full():
            self.cut(done=self.is_complete())
        self._show()
        return added

    def is_complete(self) -> bool:
        """Whether the lane has given what it is to give: its quota of samples, or its budget of bytes."""
        lane = self._job.lane
        if lane.quota is not None and self._job.totals.samples + self.samples >= lane.quota:
            return True
        open_bytes = self._writer.tar_bytes if self._writer else 0
        return lane.budget is not None and self._sealed_bytes + open_bytes >= lane.budget

    def cut(self, *, done: bool) -> None:
        """End the open shard and hand it on with what belongs to it."""
        if self._ended:
            return
        draft = Draft(
            lane=self._job.lane.name,
            number=self._number,
            staged=self._seal(),
            letters=tuple(self._letters),
            cursor=self._cursor,
            totals=self._now(),
            done=done,
        )
        self._letters, self._letter_bytes = [], 0
        self._number += 1
        self._ended = done
        self._outlet.commit(draft)

    def abandon(self) -> None:
        """Throw the open shard away."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _seal(self) -> StagedShard | None:
        if self._writer is None or not self._writer.samples:  # its first samples may have been refused
            self.abandon()
            return None
        with phase("staging"):
            staged = self._writer.seal()
        self._writer = None
        self._shards += 1
        self._sealed_bytes += staged.entry.tar_bytes
        return staged

    def _store(self, outcome: Outcome, before: Cursor | None) -> bool:
        result = outcome.result
        assert not isinstance(result, Passed), "rows passed over are counted alone"
        if isinstance(result, Prepared):
            try:
                with phase("staging"):
                    added = self._open_writer().add(result)
            except Refused as refused:
                result = Refusal(refused.reason, refused.detail)
            else:
                self._duplicates += not added
                return added
        self._refused[result.reason] = self._refused.get(result.reason, 0) + 1
        letter = DeadLetter(
            source=self._job.spec.name,
            position=outcome.position,
            reason=result.reason,
            detail=result.detail,
            retry=before,
        )
        self._letters.append(letter)
        self._letter_bytes += 64 + len(letter.position) + len(letter.detail)
        return False

    def _open_writer(self) -> ShardWriter:
        if self._writer is None:
            job = self._job
            self._writer = ShardWriter(
                Path(job.root),
                source=job.spec.name,
                lane=job.lane.name,
                ordinal=self._shards,
                codec=job.spec.codec,
                block_samples=job.limits.block_samples,
            )
        return self._writer

    def _is_full(self) -> bool:
        limits, writer = self._job.limits, self._writer
        if len(self._letters) >= LETTERS or self._letter_bytes >= LETTER_BYTES:
            return True
        return writer is not None and (writer.tar_bytes >= limits.shard_bytes or writer.samples >= limits.shard_samples)

    def _now(self) -> LaneTotals:
        samples = self._job.totals.samples + self.samples
        refused = dict(sorted(self._refused.items()))
        return LaneTotals(
            rows=self._rows,
            samples=samples,
            duplicates=self._duplicates,
            refused=refused,
            filtered=self._filtered,
        )

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            self._outlet.progress(self._now(), self._writer.tar_bytes if self._writer else 0)
