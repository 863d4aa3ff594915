"""Lanes run on this machine: in the caller's thread, or side by side in worker processes.

Here: giving lanes to workers, publishing and committing what they stage, what becomes of failures.
Elsewhere: lanes (lane.py), the workers' side (worker.py), jobs from a plan (run.py).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shardkit import errors
from shardkit.build.cutter import Draft, LaneJob
from shardkit.build.lane import run_lane
from shardkit.build.phase import phase
from shardkit.build.progress import Committed, Event, LaneEnded, LaneProgress, LaneStopped
from shardkit.build.wire import Ack, Channel, Ended, Failed, Progress, Run, Staged, draft_of
from shardkit.errors import ShardkitError, SourceFailed
from shardkit.store.layout import Commit, LaneTotals
from shardkit.store.publish import publish_dead_letters, publish_shard, write_commit

OnEvent = Callable[[Event], None]
STDERR = 2
BOOT = """
import sys
home = sys.argv.pop(1)
sys.path.insert(0, home)
import shardkit
sys.path.remove(home)
sys.path.append(home)
from shardkit.build.worker import main
main()
"""
"""A worker runs this very package, wherever it was imported from, and nothing from the current folder."""


class LaneFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A lane that stopped before its end; `kind` is its error's class. `passing`: running again may succeed."""

    lane: str
    source: str
    message: str
    kind: str = ""

    @property
    def passing(self) -> bool:
        """Whether the error is one that shardkit knows: others are likely to come again."""
        return bool(self.kind)


class Committer:
    """Publishes and commits drafts, one after the other, for the holder of the lock."""

    def __init__(self, root: Path, jobs: Iterable[LaneJob], on_event: OnEvent) -> None:
        self._root, self._on_event = root, on_event
        self._jobs = {job.lane.name: job for job in jobs}

    def commit(self, draft: Draft) -> None:
        """Link what is staged, then write the commit: after this call nothing of it can be lost."""
        with phase("publishing"):
            if draft.staged is not None:
                publish_shard(self._root, draft.staged)
            letters = publish_dead_letters(self._root, draft.letters) if draft.letters else None
        entry = draft.staged.entry if draft.staged else None
        commit = Commit(
            lane=draft.lane,
            number=draft.number,
            shard=entry,
            dead_letters=letters,
            cursor=draft.cursor,
            totals=draft.totals,
            done=draft.done,
        )
        with phase("committing"):
            write_commit(self._root, commit)
        self._on_event(
            Committed(
                lane=draft.lane,
                number=draft.number,
                shard=entry.shard.digest if entry else "",
                samples=entry.samples if entry else 0,
                bytes=entry.shard.bytes if entry else 0,
                totals=draft.totals,
            )
        )

    def progress(self, lane: str, totals: LaneTotals, shard_bytes: int) -> None:
        """Show how far a lane is."""
        self._on_event(LaneProgress(lane=lane, source=self._source(lane), totals=totals, open_bytes=shard_bytes))

    def ended(self, lane: str) -> None:
        """Show that a lane is complete."""
        self._on_event(LaneEnded(lane=lane, source=self._source(lane)))

    def stopped(self, lane: str, message: str, kind: str) -> LaneFailure:
        """Show that a lane stopped early."""
        source = self._source(lane)
        self._on_event(LaneStopped(lane=lane, source=source, message=message))
        return LaneFailure(lane=lane, source=source, message=message, kind=kind)

    def _source(self, lane: str) -> str:
        return self._jobs[lane].lane.source


def run_lanes(root: Path, jobs: tuple[LaneJob, ...], workers: int, on_event: OnEvent) -> tuple[LaneFailure, ...]:
    """Run all jobs to their end; failures of sources stop their lane only and are returned.

    Raises what concerns the whole build: StorageFailed, SpecError. Whatever ends this call, no worker outlives it.
    """
    committer = Committer(root, jobs, on_event)
    if workers == 0:
        return tuple(_run_inline(jobs, committer))
    crew = Crew(min(workers, len(jobs)), deque(jobs), committer)
    with crew.present():
        return crew.run()


def _run_inline(jobs: Iterable[LaneJob], committer: Committer) -> Iterator[LaneFailure]:
    for job in jobs:
        try:
            run_lane(job, InlineOutlet(job.lane.name, committer))
        except SourceFailed as error:
            yield committer.stopped(job.lane.name, str(error), type(error).__name__)
        else:
            committer.ended(job.lane.name)


class InlineOutlet:
    """A lane's outlet within the same thread."""

    def __init__(self, lane: str, committer: Committer) -> None:
        self._lane, self._committer = lane, committer

    def commit(self, draft: Draft) -> None:
        """Commit at once."""
        self._committer.commit(draft)

    def progress(self, totals: LaneTotals, shard_bytes: int) -> None:
        """Show it."""
        self._committer.progress(self._lane, totals, shard_bytes)


class Worker:
    """A worker process as its parent sees it, and the lane that it runs."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            home = str(Path(errors.__file__).resolve().parent.parent)
            command = [sys.executable, "-P", "-c", BOOT, home, str(theirs.fileno()), str(os.getpid())]
            self.process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=STDERR
            )
        self.channel = Channel(ours)
        self.lane = ""

    def end(self) -> None:
        """Stop the process at once."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def obituary(self) -> str:
        """Why the process ended by itself, for a message."""
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return (
                "its worker was killed (SIGKILL), perhaps because memory ran out; use fewer --workers, or lower "
                "limits.memory_bytes, and run the same command again"
            )
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its worker {how}; run the same command again"


class Crew:
    """The workers of one build and the lanes that none of them has yet."""

    def __init__(self, size: int, jobs: deque[LaneJob], committer: Committer) -> None:
        self._size, self._jobs, self._committer = size, jobs, committer
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._failures: list[LaneFailure] = []

    @contextmanager
    def present(self) -> Iterator[None]:
        """No worker is left when this context ends, by whatever signal or error."""
        try:
            yield
        finally:
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                worker.end()
            self._selector.close()

    def run(self) -> tuple[LaneFailure, ...]:
        """Serve the workers until every lane has ended or stopped."""
        self._hire()
        while self._workers:
            for key, _ in self._selector.select():
                worker: Worker = key.data
                self._answer(worker, worker.channel.receive_from_worker())
                self._hire()
        return tuple(self._failures)

    def _hire(self) -> None:
        while self._jobs and len(self._workers) < self._size:
            worker = Worker()
            self._workers.append(worker)
            self._selector.register(worker.channel.connection, selectors.EVENT_READ, worker)
            self._give_lane(worker)

    def _give_lane(self, worker: Worker) -> None:
        job = self._jobs.popleft()
        worker.lane = job.lane.name
        with contextlib.suppress(OSError):  # it is gone already: reading says so next
            worker.channel.send(Run(job=job))

    def _answer(self, worker: Worker, message: Staged | Progress | Ended | Failed | None) -> None:
        if isinstance(message, Staged):
            self._commit(worker, message)
        elif isinstance(message, Progress):
            self._committer.progress(message.lane, message.totals, message.shard_bytes)
        elif isinstance(message, Ended):
            self._committer.ended(message.lane)
            if self._jobs:
                self._give_lane(worker)
            else:
                self._dismiss(worker)
        else:
            text = worker.obituary() if message is None else message.message
            self._fail(worker, "SourceFailed" if message is None else message.kind, text)

    def _commit(self, worker: Worker, message: Staged) -> None:
        self._committer.commit(draft_of(message))
        with contextlib.suppress(OSError):  # the commit stands; reading says next that the worker is gone
            worker.channel.send(Ack())

    def _fail(self, worker: Worker, kind: str, message: str) -> None:
        """A failing source stops its lane; a failing disk or spec stops the build."""
        error = getattr(errors, kind, ShardkitError)
        self._dismiss(worker)
        if kind and not issubclass(error, SourceFailed):
            raise error(message)
        self._failures.append(self._committer.stopped(worker.lane, message, kind))

    def _dismiss(self, worker: Worker) -> None:
        self._selector.unregister(worker.channel.connection)
        self._workers.remove(worker)
        worker.end()
