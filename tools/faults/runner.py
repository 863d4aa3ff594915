"""Running a small build here: watched, recorded, stopped at a call as if the process had been killed.

Here: builds in this process, in one thread.
Elsewhere: builds in processes of their own, truly killed (tree.py).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardkit.build.run import BuildResult, build
from shardkit.spec import BuildSpec
from shardkit.store import fs
from shardkit.store.fs import Instead, Observer, Operation


class Killed(BaseException):
    """The process would be dead now. No exception handler of the build may do anything to the disk after it."""


class Watch:
    """An observer that keeps a log and may kill: from call `kill_at` on (1 is the first) nothing reaches the disk.

    A write that is killed has stored half of its bytes.
    """

    def __init__(self, log: list[Operation] | None = None, kill_at: int | None = None) -> None:
        self.log = [] if log is None else log
        self.calls = 0
        self._kill_at = kill_at

    def before(self, operation: Operation) -> Instead | None:
        """Count the call; raise Killed when its turn has come, and ever after."""
        self.calls += 1
        if self._kill_at is None or self.calls < self._kill_at:
            return None
        if self.calls == self._kill_at and operation.kind == "write" and len(operation.data) > 1:
            half = operation.data[: len(operation.data) // 2]
            _write_at(operation, half)
            self.log.append(Operation("write", operation.path, data=half, offset=operation.offset))
        raise Killed

    def after(self, operation: Operation) -> None:
        """Keep the call."""
        self.log.append(operation)


def build_here(spec: BuildSpec, root: Path, observer: Observer | None = None) -> BuildResult:
    """Build, or resume, in this thread, with an observer of all mutating calls."""
    with observed(observer):
        return build(spec, out=root, workers=0, on_event=_ignore)


def record(spec: BuildSpec, root: Path) -> tuple[str, list[Operation]]:
    """(version, log) of an undisturbed build."""
    watch = Watch()
    return build_here(spec, root, watch).version, watch.log


@contextmanager
def observed(observer: Observer | None) -> Iterator[None]:
    """Set this process's observer for the time of a block."""
    before = fs.observe(observer)
    try:
        yield
    finally:
        fs.observe(before)


def _ignore(event: object) -> None:
    """Nobody looks at the events of these builds."""


def _write_at(operation: Operation, data: bytes) -> None:
    fd = os.open(operation.path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, operation.offset)
    finally:
        os.close(fd)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder, in memory where there is such a place: what is proved is the order of calls, not the disk."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="shardkit-faults-", dir=place) as folder:
        yield Path(folder)
