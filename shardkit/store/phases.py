"""A test hook: which phase of a build each thread is in, visible from outside even after SIGKILL.

Here: noting a phase in a small mapped file, one a process, one byte a thread. Only tests set the environment variable
SHARDKIT_PHASES (a folder); without it a phase costs one comparison.
Elsewhere: who reads the files and kills (tools.faults.kill).
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Literal, get_args

Phase = Literal["starting", "reading", "media", "staging", "publishing", "committing", "finishing"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""In the order in which a row passes them; a thread in none of them has a zero byte."""

SLOTS = 256


class phase:  # noqa: N801 - reads as a statement: `with phase("media"):`
    """A context manager: this thread is in `name` inside, and where it was before afterwards."""

    __slots__ = ("_before", "_number")

    def __init__(self, name: Phase) -> None:
        self._number = PHASES.index(name) + 1
        self._before = 0

    def __enter__(self) -> None:
        if _slots is not None:
            self._before = _slots.swap(self._number)

    def __exit__(self, *_: object) -> None:
        if _slots is not None:
            _slots.swap(self._before)


class Slots:
    """The mapped file of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._pid = folder, 0
        self._lock = threading.Lock()
        self._open()

    def swap(self, number: int) -> int:
        """Put a phase into this thread's slot; the one before."""
        if self._pid != os.getpid():  # forked
            self._open()
        slot = getattr(self._own, "slot", None)
        if slot is None:
            with self._lock:
                slot = self._own.slot = self._next % SLOTS
                self._next += 1
        before: int = self._map[slot]
        self._map[slot] = number
        return before

    def _open(self) -> None:
        self._pid, self._next, self._own = os.getpid(), 0, threading.local()
        fd = os.open(self._folder / str(self._pid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(fd, SLOTS)
        self._map = mmap.mmap(fd, SLOTS)
        os.close(fd)


def read_phases(folder: Path) -> list[Phase]:
    """The phases that threads of any process are in, the most advanced last."""
    found = [number for path in folder.iterdir() for number in path.read_bytes() if number]
    return [PHASES[number - 1] for number in sorted(found)]


_slots = Slots(Path(os.environ["SHARDKIT_PHASES"])) if os.environ.get("SHARDKIT_PHASES") else None
