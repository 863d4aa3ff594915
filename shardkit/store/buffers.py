"""Memory that is used again once nobody looks at it, for samples and pixels.

Here: the buffers.
Elsewhere: what is read into them (read.spans), what is decoded into them (media.pixels).

Without them a batch of 64 images of 54 KB costs 32 microseconds an image, against 4.3: the allocator gives the memory
of each batch back to the system, and the next batch pays a page fault for every 4 KiB.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = deque[NDArray[np.uint8]]

SMALLEST = 8 << 10
"""Below this the allocator keeps the memory itself."""

LARGEST = 16 << 20
POOL_BYTES = 128 << 20


class Buffers:
    """Gives out views of memory; a buffer is given out again when no view of it is left. Shared by threads."""

    def __init__(self) -> None:
        self._rings: dict[int, Ring] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """A writable view of `size` bytes, whose content is undefined."""
        if _IDLE is None or not SMALLEST <= size <= LARGEST:
            return memoryview(bytearray(size))
        step = size.bit_length() - 3
        room = -(-size >> step) << step  # at most a quarter more
        with self._lock:
            ring = self._rings.get(room)
            if ring is None:
                ring = self._rings[room] = deque()
            if ring:
                references = _references(ring)
                ring.rotate(-1)
                if references == _IDLE:
                    return ring[-1].data[:size]
            return self._add(ring, room).data[:size]

    def _add(self, ring: Ring, room: int) -> NDArray[np.uint8]:
        """A new buffer. Where the pool is full, the oldest of its size is left to those who look at it."""
        buffer = np.empty(room, dtype=np.uint8)
        if self._bytes + room > POOL_BYTES:
            if not ring:
                return buffer
            ring.pop()
            self._bytes -= room
        ring.append(buffer)
        self._bytes += room
        return buffer


def _references(ring: Ring) -> int:
    """References to the first buffer, views included, as this function's code counts them."""
    buffer = ring[0]
    return sys.getrefcount(buffer)


def _idle_count() -> int | None:
    """What `_references` says of a buffer without views; None where counts cannot tell."""
    if not hasattr(sys, "getrefcount") or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    ring: Ring = deque([np.empty(8, dtype=np.uint8)])
    idle = _references(ring)
    view = ring[0].data[:4]
    seen = _references(ring)
    del view
    return idle if seen > idle == _references(ring) else None


_IDLE = _idle_count()
