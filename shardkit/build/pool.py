"""Rows on their way through a lane: read ahead by a thread, worked on by several, handed on in order.

Here: the line between producer, pool and consumer, bounded in bytes and in rows.
Elsewhere: what is read and what is done with it (lane.py).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from itertools import islice

import msgspec

from shardkit.errors import SourceFailed
from shardkit.records.row import Cursor, Prepared, Row
from shardkit.sources.base import Passed, Step

MAX_ROWS = 512
"""Rows under way at most: small rows cost more memory as objects than as bytes."""

BATCH_ROWS = 32
BATCH_BYTES = 128 << 10
BATCH_SECONDS = 0.02
"""Small rows go to the pool together: handing over costs more than working on one. None waits longer than this."""

CLOSE_SECONDS = 5.0


class Refusal(msgspec.Struct, frozen=True):
    """Why a row became no sample."""

    reason: str
    detail: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row, and the cursor behind it."""

    position: str
    cursor: Cursor
    result: Prepared | Refusal | Passed

    @property
    def size_bytes(self) -> int:
        """Bytes that the outcome holds until it is consumed."""
        return self.result.size_bytes if isinstance(self.result, Prepared) else 512


Work = Callable[[Step], Outcome]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a line: bytes of rows and results under way, threads of the pool, seconds without any progress.

    Without threads in the pool the consumer's thread works: for work that holds the interpreter all the time.

    `samples` is how many samples the consumer still wants: no more rows are read than could be needed (none: all).
    """

    max_bytes: int
    threads: int
    wait_seconds: float
    samples: int | None = None


class Batch:
    """Rows that are worked on together. `size_bytes` is what they, and then their outcomes, count for in the line."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.rows = 0
        self.size_bytes = 0
        self.begun = time.monotonic()
        self.future: Future[list[Outcome]] = Future()

    @property
    def begins_at(self) -> str:
        """Position of the first row, as long as the rows are held."""
        return next((step.row.position for step in self.steps[:1]), "")

    def add(self, step: Step) -> None:
        """Append a row."""
        self.steps.append(step)
        self.rows += 1
        self.size_bytes += step_bytes(step)

    def is_full(self, max_bytes: int) -> bool:
        """Whether it should not wait for another row."""
        many = self.rows >= BATCH_ROWS or self.size_bytes >= max_bytes
        return many or time.monotonic() - self.begun > BATCH_SECONDS


class Line:
    """Outcomes of `steps` in their order: a thread reads ahead, a pool works, iteration hands on.

    What is under way stays within the bounds however slow the consumer is; a single larger row is let through alone.
    Errors of reading and of work are raised at their place in the order. Leaving the context drops what is under way.
    """

    def __init__(self, steps: Generator[Step, None, None], work: Work, bounds: Bounds) -> None:
        self._steps, self._work, self._bounds = steps, work, bounds
        self._batch_bytes = min(BATCH_BYTES, bounds.max_bytes // 8)
        self._changed = threading.Condition()
        self._open = Batch()
        self._batches: deque[Batch] = deque()
        self._bytes = self._rows = 0
        self._wanted = bounds.samples
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._pool = ThreadPoolExecutor(bounds.threads, thread_name_prefix="media") if bounds.threads else None
        self._producer = threading.Thread(target=self._produce, name="producer", daemon=True)

    def __enter__(self) -> Line:
        self._producer.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._producer.join(CLOSE_SECONDS)

    def __iter__(self) -> Iterator[Outcome]:
        """One outcome after the other; raises as `batches` does."""
        for outcomes in self.batches():
            yield from outcomes

    def batches(self) -> Iterator[list[Outcome]]:
        """Outcomes of some rows together, in order. Without threads in the pool the work is done here.

        Raises SourceFailed where reading or work makes no progress for `wait_seconds`, and what they raise.
        """
        while (batch := self._next_batch()) is not None:
            begins_at = batch.begins_at
            try:
                if self._pool is None:
                    self._run(batch)
                outcomes = batch.future.result(self._bounds.wait_seconds)
            except FutureTimeout:
                raise SourceFailed(
                    f"work on {begins_at} took over {self._bounds.wait_seconds:g} s; run again"
                ) from None
            yield outcomes
            self._release(batch)

    def give_back(self, rows: int = 1) -> None:
        """The consumer got no sample out of so many rows: as many more may be read."""
        if rows and self._wanted is not None:
            with self._changed:
                self._wanted += rows
                self._changed.notify_all()

    def _next_batch(self) -> Batch | None:
        with self._changed:
            ready = self._changed.wait_for(lambda: self._batches or self._ended, self._bounds.wait_seconds)
            if not ready:
                raise SourceFailed(f"no row came for {self._bounds.wait_seconds:g} s; run again")
            if self._batches:
                return self._batches.popleft()
            if self._error is not None:
                raise self._error
            return None

    def _release(self, batch: Batch) -> None:
        with self._changed:
            self._bytes -= batch.size_bytes
            self._rows -= batch.rows
            self._changed.notify_all()

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            with closing(self._steps):
                self._read()
        except BaseException as caught:
            error = caught
        with self._changed:
            self._hand_over()  # rows read before an error come before it
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _read(self) -> None:
        while room := self._room():
            for step in islice(self._steps, room):
                self._open.add(step)
                if self._open.is_full(self._batch_bytes):
                    break
            else:
                if self._open.rows < room:
                    return
            with self._changed:
                self._hand_over()

    def _room(self) -> int:
        """Wait until other rows are wanted; how many may be read before asking again, 0 where none will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wanted is None or self._wanted > 0)
            return 0 if self._closed else BATCH_ROWS if self._wanted is None else min(BATCH_ROWS, self._wanted)

    def _hand_over(self) -> None:
        """Give the open batch to be worked on, when there is room for it, and open the next."""
        batch, self._open = self._open, Batch()
        self._changed.wait_for(lambda: self._closed or self._fits(batch.size_bytes))
        if not batch.steps or self._closed:
            return
        self._bytes += batch.size_bytes
        self._rows += batch.rows
        if self._wanted is not None:
            self._wanted -= batch.rows
        if self._pool is not None:
            self._pool.submit(self._run, batch)
        self._batches.append(batch)
        self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._rows == 0 or (self._rows < MAX_ROWS and self._bytes + size <= self._bounds.max_bytes)

    def _run(self, batch: Batch) -> None:
        try:
            outcomes = [self._work(step) for step in batch.steps]
        except BaseException as error:
            batch.future.set_exception(error)
            return
        finally:
            batch.steps.clear()  # they are not counted any more
        if self._pool is not None:
            held = sum([outcome.size_bytes for outcome in outcomes])
            with self._changed:
                self._bytes += held - batch.size_bytes
                batch.size_bytes = held
                self._changed.notify_all()
        batch.future.set_result(outcomes)


def step_bytes(step: Step) -> int:
    """Bytes that a row holds while it is under way."""
    return step.size or (step.row.size_bytes if isinstance(step.row, Row) else 512)
