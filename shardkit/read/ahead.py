"""Doing work ahead of its use, in threads, without changing its order.

Here: blocks fetched ahead of their steps, how many at once, steps made by several threads.
Elsewhere: what a step is (steps.py), reading (stream.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from shardkit.read.spec import LoaderSpec
from shardkit.read.steps import Step
from shardkit.read.stream import Located, Stream

FETCHING_THREADS = 8
MOST_FETCHING_THREADS = 32
MOST_STEPS_AHEAD = 64
MOST_SAMPLES_AHEAD = 2048
AHEAD_BYTES = 64 << 20
"""Bytes asked for ahead of the step that is handed out, at most (and at most a quarter of the budget)."""

R = TypeVar("R")
Work = tuple[Sequence[Step], Located]
"""A few steps that are read together, and the places of their samples."""


def in_order(work: Iterable[Work], make: Callable[[Sequence[Step], Located], R], threads: int) -> Iterator[R]:
    """`make` of every piece of work in its order, by so many threads; 0 is the caller's thread.

    At most two pieces a thread are under way or waiting. An error comes in its place.
    """
    if not threads:
        for steps, places in work:
            yield make(steps, places)
        return
    with thread_pool(threads, "shardkit-decode") as pool:
        waiting: deque[Future[R]] = deque()
        for steps, places in work:
            waiting.append(pool.submit(make, steps, places))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def reading_ahead(work: Iterator[Work], stream: Stream, spec: LoaderSpec) -> Iterator[Work]:
    """The same work, its bytes asked for ahead where they come over a network."""
    if not stream.is_remote or not spec.read_ahead_bytes:
        yield from work
        return
    limit = min(AHEAD_BYTES, spec.read_ahead_bytes // 4)
    with fetch_pool() as pool:
        waiting: deque[tuple[Work, int, int]] = deque()
        ahead = samples = 0
        for steps, places in work:
            expected = stream.announce(places, pool)
            waiting.append(((steps, places), expected, pool.submitted))
            ahead, samples = ahead + expected, samples + len(places)
            while ahead > limit or (len(waiting) > MOST_STEPS_AHEAD and samples > MOST_SAMPLES_AHEAD):
                ready, size, last = waiting.popleft()
                ahead, samples = ahead - size, samples - len(ready[1])
                pool.widen_unless_done(last)
                yield ready
        while waiting:
            yield waiting.popleft()[0]


class FetchPool(Executor):
    """Requests in the order in which they were asked for, a few at once; more where their reader has to wait.

    On a near network more threads than needed cost a tenth of all work; on a far one, eight requests of 256 KiB at
    50 ms are 40 MB/s.
    """

    def __init__(self) -> None:
        self.width = FETCHING_THREADS
        """Requests at once."""
        self.submitted = 0
        """How many there were so far; the number of the last one."""
        self._pool = ThreadPoolExecutor(MOST_FETCHING_THREADS, thread_name_prefix="shardkit-fetch")
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Future[Any], Callable[[], Any]]] = deque()
        self._running: set[int] = set()
        self._closed = False

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Run `fn` when its turn comes. Raises RuntimeError once the pool is shut down."""
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("this pool is shut down")
            self.submitted += 1
            self._waiting.append((self.submitted, future, partial(fn, *args, **kwargs)))
            self._begin()
        return future

    def widen_unless_done(self, number: int) -> None:
        """Allow one more request at once, if not all up to this number are done: somebody is about to wait for them."""
        with self._lock:
            if self.width < MOST_FETCHING_THREADS and min(self._running, default=number + 1) <= number:
                self.width += 1
                self._begin()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; `cancel_futures` gives up what has not begun."""
        with self._lock:
            self._closed = True
            left = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for _, future, _ in left:
            future.cancel()
        self._pool.shutdown(wait=wait, cancel_futures=False)

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self.width:
            number, future, work = self._waiting.popleft()
            self._running.add(number)
            self._pool.submit(self._run, number, future, work)

    def _run(self, number: int, future: Future[Any], work: Callable[[], Any]) -> None:
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        with self._lock:
            self._running.discard(number)
            if self._waiting:
                self._begin()


@contextmanager
def fetch_pool() -> Iterator[FetchPool]:
    """A pool for requests, given up with its use."""
    pool = FetchPool()
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def thread_pool(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work is given up with its use; what is under way ends by itself."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
