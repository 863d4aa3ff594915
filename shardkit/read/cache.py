"""A cache of values by key, bounded in bytes, that loads each value once however many threads ask for it.

Here: the cache.
Elsewhere: what is cached: index tables (table.py), blocks of samples (fetch.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Keeps the values used last. A value larger than the bound is given and not kept."""

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self._size = size
        self._ready: OrderedDict[Hashable, V] = OrderedDict()
        self._loading: dict[Hashable, Future[V]] = {}
        self._lock = threading.Lock()
        self.bytes = 0
        """Bytes of the values kept."""

    def get(self, key: Hashable, load: Callable[[], V]) -> V:
        """The value of `key`, loaded by one caller where it is not there; what `load` raises, all waiting ones get."""
        value = self._ready.get(key)
        if value is not None:
            self._touch(key)
            return value
        with self._lock:
            value = self._ready.get(key)
            if value is not None:
                return value
            waiting = self._loading.get(key)
            if waiting is None:
                mine: Future[V] = Future()
                self._loading[key] = mine
        if waiting is not None:
            return waiting.result()
        return self._load(key, load, mine)

    def take(self, key: Hashable, load: Callable[[], V]) -> V:
        """The same, and the value is not kept."""
        value = self.get(key, load)
        with self._lock:
            if self._ready.pop(key, None) is not None:
                self.bytes -= self._size(value)
        return value

    def peek(self, key: Hashable) -> bool:
        """Whether the value is there or on its way."""
        return key in self._ready or key in self._loading

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._ready.clear()
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
        self._ready[key] = value
        self.bytes += size
        while self.bytes > self.max_bytes:
            self.bytes -= self._size(self._ready.popitem(last=False)[1])

    def _touch(self, key: Hashable) -> None:
        with contextlib.suppress(KeyError):  # another thread may just have thrown it out
            self._ready.move_to_end(key)
