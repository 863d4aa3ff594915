"""A cache of values by key, bounded in bytes, that loads each value once however many threads ask for it.

Here: the cache.
Elsewhere: what is cached: index tables (table.py), blocks of samples (fetch.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Keeps the values loaded last. A value larger than the bound is given and not kept.

    First in, first out: blocks of open windows live about equally long, so that the oldest is the one that is done
    with, and a hit costs one look-up (moving the key to the end of a list doubled it).
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self._size = size
        self._loading: dict[Hashable, Future[V]] = {}
        self._lock = threading.Lock()
        self.ready: dict[Hashable, V] = {}
        """The values kept, oldest first; to be looked up and nothing else."""
        self.bytes = 0
        """Bytes of the values kept."""

    def get(self, key: Hashable, load: Callable[[], V]) -> V:
        """The value of `key`, loaded by one caller where it is not there; what `load` raises, all waiting ones get."""
        value = self.ready.get(key)
        if value is not None:
            return value
        with self._lock:
            value = self.ready.get(key)
            if value is not None:
                return value
            waiting = self._loading.get(key)
            if waiting is None:
                mine: Future[V] = Future()
                self._loading[key] = mine
        if waiting is None:
            return self._load(key, load, mine)
        try:
            return waiting.result()
        except CancelledError:  # whoever was to load it gave up before it began
            return self.get(key, load)

    def start(self, key: Hashable, load: Callable[[], V], executor: Executor) -> bool:
        """Have `executor` load the value, unless it is there or on its way; whoever asks for it then waits for that.

        Registered here and not by the thread that loads: a reader that comes before that thread would load it, too.
        """
        with self._lock:
            if key in self.ready or key in self._loading:
                return False
            mine: Future[V] = Future()
            self._loading[key] = mine
        try:
            executor.submit(self._load, key, load, mine).add_done_callback(partial(self._ended, key, mine))
        except BaseException:
            self._give_up(key, mine)
            raise
        return True

    def _ended(self, key: Hashable, mine: Future[V], work: Future[V]) -> None:
        if work.cancelled():
            self._give_up(key, mine)

    def _give_up(self, key: Hashable, mine: Future[V]) -> None:
        with self._lock:
            del self._loading[key]
        mine.cancel()

    def take(self, key: Hashable, load: Callable[[], V]) -> V:
        """The same, and the value is not kept."""
        value = self.get(key, load)
        with self._lock:
            if self.ready.pop(key, None) is not None:
                self.bytes -= self._size(value)
        return value

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self.ready.clear()
            self.bytes = 0

    def _load(self, key: Hashable, load: Callable[[], V], mine: Future[V]) -> V:
        try:
            value = load()
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self._keep(key, value)
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: V) -> None:
        size = self._size(value)
        if size > self.max_bytes:
            return
        self.ready[key] = value
        self.bytes += size
        while self.bytes > self.max_bytes:
            self.bytes -= self._size(self.ready.pop(next(iter(self.ready))))
