"""Doing work ahead of its use, in threads, without changing its order.

Here: blocks fetched ahead of their steps, steps made by several threads.
Elsewhere: what a step is (steps.py), reading (stream.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from shardkit.read.spec import LoaderSpec
from shardkit.read.steps import Step
from shardkit.read.stream import Located, Stream

FETCHING_THREADS = 8
MOST_STEPS_AHEAD = 64
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
    with thread_pool(FETCHING_THREADS, "shardkit-fetch") as pool:
        waiting: deque[tuple[Work, int]] = deque()
        ahead = 0
        for steps, places in work:
            expected = stream.announce(places, pool)
            waiting.append(((steps, places), expected))
            ahead += expected
            while ahead > limit or len(waiting) > MOST_STEPS_AHEAD:
                ready, bytes_ = waiting.popleft()
                ahead -= bytes_
                yield ready
        while waiting:
            yield waiting.popleft()[0]


@contextmanager
def thread_pool(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work is given up with its use; what is under way ends by itself."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
