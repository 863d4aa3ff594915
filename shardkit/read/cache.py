"""A cache of values by key, bounded in bytes, that loads each value once however many threads ask for it.

Here: the cache.
Elsewhere: what is cached: index tables (table.py), blocks of samples (fetch.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Announced(NamedTuple, Generic[V]):
    """A value on its way: its key, about how many bytes it will have, who waits for it."""

    key: Hashable
    size: int
    future: Future[V]


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
        self.coming = 0
        """Bytes of the values on their way that were announced: kept values make room for them."""
        self.most_bytes = 0
        """The most that both together ever were."""

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
        announced = self.announce({key: 0})
        if announced:
            self.fill(announced, lambda: [load()], executor)
        return bool(announced)

    def announce(self, sizes: Mapping[Hashable, int]) -> list[Announced[V]]:
        """Register values of about these sizes that are neither there nor on their way; each is to be filled."""
        new = []
        with self._lock:
            for key, size in sizes.items():
                if key not in self.ready and key not in self._loading:
                    mine: Future[V] = Future()
                    self._loading[key] = mine
                    self.coming += size
                    new.append(Announced(key, size, mine))
            self._make_room()
        return new

    def fill(
        self, announced: Sequence[Announced[V]], load: Callable[[], Sequence[V | Exception]], executor: Executor
    ) -> None:
        """Have `executor` load announced values together; an exception in a value's place is raised to its readers."""
        try:
            work = executor.submit(self._load_all, announced, load)
        except BaseException:
            self._give_up(announced)
            raise
        work.add_done_callback(partial(self._ended, announced))

    def _ended(self, announced: Sequence[Announced[V]], work: Future[None]) -> None:
        if work.cancelled():
            self._give_up(announced)

    def _give_up(self, announced: Sequence[Announced[V]]) -> None:
        with self._lock:
            for key, size, _ in announced:
                del self._loading[key]
                self.coming -= size
        for one in announced:
            one.future.cancel()

    def _load_all(self, announced: Sequence[Announced[V]], load: Callable[[], Sequence[V | Exception]]) -> None:
        values: Sequence[V | BaseException]
        try:
            values = load()
        except BaseException as error:
            values = [error] * len(announced)
        for (key, size, mine), value in zip(announced, values, strict=True):
            with self._lock:
                del self._loading[key]
                self.coming -= size
                if not isinstance(value, BaseException):
                    self._keep(key, value)
            if isinstance(value, BaseException):
                mine.set_exception(value)
            else:
                mine.set_result(value)

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
        self._make_room()

    def _make_room(self) -> None:
        while self.ready and self.bytes + self.coming > self.max_bytes:
            self.bytes -= self._size(self.ready.pop(next(iter(self.ready))))
        self.most_bytes = max(self.most_bytes, self.bytes + self.coming)
