"""The second half of decoding packed samples: what need not be carried is made when a pack is handed out.

Here: finishing batches of packs ahead of use by threads, in their order.
Elsewhere: the packs (packed.py), decoding what a cost needs (feed.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Finish = Callable[[Any], Any]
L = TypeVar("L", bound=list[Any])
A = TypeVar("A")

AHEAD = 2
"""Samples a thread that are finished ahead of the batch handed out, in whole batches; at least one batch."""


def finished(
    made: Iterator[tuple[list[L], A]], finish: Finish | None, threads: Executor | None, count: int
) -> Iterator[tuple[list[L], A]]:
    """The batches, every sample of their packs replaced by what `finish` makes of it, `count` threads working ahead.

    An error comes where its batch would have been handed out.
    """
    if finish is None:
        yield from made
        return
    waiting: deque[tuple[list[L], A, list[Future[Any]]]] = deque()
    ends: Exception | None = None
    while ends is None:
        try:
            packs, after = next(made)
        except Exception as error:  # raised when the batches before it are handed out
            ends = error
            break
        samples = [sample for pack in packs for sample in pack]
        waiting.append((packs, after, [] if threads is None else [threads.submit(finish, one) for one in samples]))
        most = AHEAD * count + len(samples)
        while waiting and (threads is None or _samples(waiting) > most):
            yield _wait(*waiting.popleft(), finish)
    while waiting:
        yield _wait(*waiting.popleft(), finish)
    raise ends


def _samples(waiting: Iterable[tuple[Any, Any, list[Future[Any]]]]) -> int:
    return sum(len(futures) for _, _, futures in waiting)


def _wait(packs: list[L], after: A, futures: list[Future[Any]], finish: Finish) -> tuple[list[L], A]:
    done = iter(futures)
    for pack in packs:
        pack[:] = [next(done).result() if futures else finish(sample) for sample in pack]
    return packs, after
