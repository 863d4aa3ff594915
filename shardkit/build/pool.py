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
        self.begins_at = ""
        self.begun = time.monotonic()
        self.future: Future[list[Outcome]] = Future()

    def add(self, step: Step, size: int) -> None:
        """Append a row of `size` bytes."""
        self.begins_at = self.begins_at or step.row.position
        self.steps.append(step)
        self.rows += 1
        self.size_bytes += size

    def is_full(self) -> bool:
        """Whether it should not wait for another row."""
        many = self.rows >= BATCH_ROWS or self.size_bytes >= BATCH_BYTES
        return many or time.monotonic() - self.begun > BATCH_SECONDS


class Line:
    """Outcomes of `steps` in their order: a thread reads ahead, a pool works, iteration hands on.

    What is under way stays within the bounds however slow the consumer is; a single larger row is let through alone.
    Errors of reading and of work are raised at their place in the order. Leaving the context drops what is under way.
    """

    def __init__(self, steps: Generator[Step, None, None], work: Work, bounds: Bounds) -> None:
        self._steps, self._work, self._bounds = steps, work, bounds
        self._changed = threading.Condition()
        self._open = Batch()
        self._batches: deque[Batch] = deque()
        self._bytes = self._rows = 0
        self._wanted = bounds.samples
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._pool = ThreadPoolExecutor(bounds.threads, thread_name_prefix="media")
        self._producer = threading.Thread(target=self._produce, name="producer", daemon=True)

    def __enter__(self) -> Line:
        self._producer.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._producer.join(CLOSE_SECONDS)

    def __iter__(self) -> Iterator[Outcome]:
        """Raises SourceFailed where reading or work makes no progress for `wait_seconds`, and what they raise."""
        while (batch := self._next_batch()) is not None:
            try:
                outcomes = batch.future.result(self._bounds.wait_seconds)
            except FutureTimeout:
                where = batch.begins_at
                raise SourceFailed(f"work on {where} took over {self._bounds.wait_seconds:g} s; run again") from None
            yield from outcomes
            self._release(batch)

    def give_back(self) -> None:
        """The consumer got no sample out of a row: one more may be read."""
        with self._changed:
            if self._wanted is not None:
                self._wanted += 1
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
        while self._is_wanted():
            step = next(self._steps, None)
            if step is None:
                return
            with self._changed:
                self._admit(step)

    def _is_wanted(self) -> bool:
        """Wait until another row is wanted; False where none will be."""
        with self._changed:
            if self._wanted is not None and self._wanted <= 0:
                self._hand_over()
            self._changed.wait_for(lambda: self._closed or self._wanted is None or self._wanted > 0)
            if self._wanted is not None:
                self._wanted -= 1
            return not self._closed

    def _admit(self, step: Step) -> None:
        """Take a row into the open batch, when there is room for it."""
        size = step_bytes(step)
        if not self._fits(size):
            self._hand_over()
        self._changed.wait_for(lambda: self._closed or self._fits(size))
        self._bytes += size
        self._rows += 1
        self._open.add(step, size)
        if self._open.is_full():
            self._hand_over()

    def _fits(self, size: int) -> bool:
        return self._rows == 0 or (self._rows < MAX_ROWS and self._bytes + size <= self._bounds.max_bytes)

    def _hand_over(self) -> None:
        """Give the open batch to the pool, and open the next."""
        batch, self._open = self._open, Batch()
        if batch.steps and not self._closed:
            self._pool.submit(self._run, batch)
            self._batches.append(batch)
            self._changed.notify_all()

    def _run(self, batch: Batch) -> None:
        try:
            outcomes = [self._work(step) for step in batch.steps]
        except BaseException as error:
            batch.future.set_exception(error)
            return
        finally:
            batch.steps.clear()  # they are not counted any more
        held = sum(outcome.size_bytes for outcome in outcomes)
        with self._changed:
            self._bytes += held - batch.size_bytes
            batch.size_bytes = held
            self._changed.notify_all()
        batch.future.set_result(outcomes)


def step_bytes(step: Step) -> int:
    """Bytes that a row holds while it is under way."""
    return step.row.size_bytes if isinstance(step.row, Row) else 512
