"""The consumer of a lane: outcomes become shards, shards and dead letters become drafts of commits.

Here: what a lane is given and what it hands on; cutting shards, counting rows.
Elsewhere: where outcomes come from (lane.py), who publishes and commits drafts (engine_local.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Protocol

import msgspec

from shardkit.build.phase import phase
from shardkit.build.pool import Outcome, Refusal
from shardkit.records.row import Cursor, Prepared
from shardkit.records.rules import without_secrets
from shardkit.sources.base import Passed
from shardkit.spec import AnySource, Limits
from shardkit.store.layout import DeadLetter, LaneRecord, LaneTotals
from shardkit.store.shard import ShardWriter, StagedShard

LETTERS = 20_000
LETTER_BYTES = 2 << 20
"""Dead letters that a commit holds at most: they are kept in memory until then."""

PROGRESS_SECONDS = 0.25


class LaneJob(msgspec.Struct, frozen=True, kw_only=True):
    """All that running a lane takes, from where its last commit left it. Crosses to other processes.

    `pins` is the source's private folder; `tar_bytes` are those of the lane's shards so far. `queue_bytes` bounds what
    is under way; `threads` work on media beside a thread that reads; 0: the caller's thread works; none: it reads as
    well. `wait_seconds` is how long reading or work may make no progress.
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
    threads: int | None = None
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


class Cutter:
    """The lane's consumer: adds samples to the open shard and cuts it when it is full."""

    def __init__(self, job: LaneJob, outlet: Outlet) -> None:
        self._job, self._outlet = job, outlet
        self._writer: ShardWriter | None = None
        self._letters: list[DeadLetter] = []
        self._letter_bytes = 0
        self._cursor, self._number, self._shards = job.cursor, job.commits, job.shards
        self._refused = dict(job.totals.refused)
        self._rows, self._duplicates, self._filtered = job.totals.rows, job.totals.duplicates, job.totals.filtered
        self._sealed_bytes = job.tar_bytes
        self._shown = 0.0
        self._ended = False
        self.samples = 0
        """Samples added since this lane was opened."""

    def add(self, outcomes: Sequence[Outcome]) -> int:
        """Take outcomes in order until the lane is complete; how many of those taken became no samples."""
        before, at = self.samples, 0
        while at < len(outcomes) and not self.is_complete():
            if isinstance(outcomes[at].result, Prepared):
                at += self._store(list(takewhile(_is_prepared, islice(outcomes, at, None))))
            else:
                self._leave_out(outcomes[at])
                at += 1
            if self._is_full():
                self.cut(done=self.is_complete())
        self._show()
        return at - (self.samples - before)

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

    def _store(self, run: Sequence[Outcome]) -> int:
        """Add samples until the shard is full, or one of them is refused; how many were taken."""
        writer = self._open_writer()
        before = writer.samples
        with phase("staging"):
            columns, refused = writer.encode_columns(
                [outcome.result for outcome in run if isinstance(outcome.result, Prepared)]
            )
            taken = writer.fill_columns(columns, max_bytes=self._most_bytes(), max_samples=self._most_samples(writer))
        added = writer.samples - before
        self.samples += added
        self._rows += taken
        self._duplicates += taken - added
        if taken:
            self._cursor = run[taken - 1].cursor
        if refused is not None and taken == len(columns.keys) and not (self._is_full() or self.is_complete()):
            self._leave_out(msgspec.structs.replace(run[taken], result=Refusal(refused.reason, refused.detail)))
            taken += 1
        return taken

    def _most_bytes(self) -> int:
        """With so many bytes the open shard is full, or the lane's budget is reached."""
        budget = self._job.lane.budget
        whole = self._job.limits.shard_bytes
        return whole if budget is None else min(whole, budget - self._sealed_bytes)

    def _most_samples(self, writer: ShardWriter) -> int:
        """With so many samples the open shard is full, or the lane's quota is met."""
        quota, whole = self._job.lane.quota, self._job.limits.shard_samples
        left = whole if quota is None else quota - self._job.totals.samples - self.samples
        return min(whole, writer.samples + left)

    def _leave_out(self, outcome: Outcome) -> None:
        """Count rows that were passed over, or keep a refused one as a dead letter."""
        before, self._cursor = self._cursor, outcome.cursor
        result = outcome.result
        if isinstance(result, Passed):
            self._rows += result.count
            self._filtered += result.count
            return
        assert isinstance(result, Refusal), "samples are stored"
        self._rows += 1
        self._refused[result.reason] = self._refused.get(result.reason, 0) + 1
        letter = DeadLetter(
            source=self._job.spec.name,
            position=outcome.position,
            reason=result.reason,
            detail=without_secrets(result.detail),
            retry=before,
        )
        self._letters.append(letter)
        self._letter_bytes += 64 + len(letter.position) + len(letter.detail)

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


def _is_prepared(outcome: Outcome) -> bool:
    return isinstance(outcome.result, Prepared)
