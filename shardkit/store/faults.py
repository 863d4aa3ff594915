"""A test hook: faults injected into, and a log recorded of, everything that fs.py does.

Here: the observer and its setting. A spawned process takes the setting from the environment variable SHARDKIT_FAULTS,
which only tests set: `{"fault": "enospc", "at": 17}` or `{"fault": "none", "log": "/tmp/log"}`.
Elsewhere: the calls themselves (fs.py), replaying a log to the states after a power cut (tests).
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from shardkit.store.fs import Instead, Kind, Operation

Fault = Literal["none", "enospc", "eio", "short", "torn", "flip", "kill"]
_FRAME = msgspec.msgpack.Encoder()
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens at the `at`-th mutating call (from 1) of a process, counted over `kinds` (empty: all).

    `enospc`, `eio`: the call fails. `short`: a write takes half and says so. `torn`: it takes half and claims all.
    `flip`: it stores one bit wrong and claims all. `kill`: SIGKILL instead of the call; a write stores half first.
    `lasting`: that call and every later one. `log`: a file to which all calls are appended.
    """

    fault: Fault = "none"
    at: int = 0
    kinds: tuple[Kind, ...] = ()
    lasting: bool = False
    log: str = ""


class Faults:
    """The observer. `calls` counts the mutating calls seen; `operations` keeps them when `keep` is set."""

    def __init__(self, setting: Setting | None = None, *, keep: bool = False) -> None:
        self.setting = setting or Setting()
        self.calls = 0
        self.operations: list[Operation] = []
        self._keep = keep
        self._lock = threading.Lock()

    def before(self, operation: Operation) -> Instead | None:
        """Inject the fault when this call's turn has come."""
        setting = self.setting
        if setting.kinds and operation.kind not in setting.kinds:
            return None
        with self._lock:
            self.calls += 1
            due = self.calls == setting.at or (setting.lasting and self.calls >= setting.at)
        if not due or setting.fault == "none":
            return None
        if setting.fault in _ERRORS:
            number = _ERRORS[setting.fault]
            raise OSError(number, os.strerror(number))
        return self._disturb(operation)

    def after(self, operation: Operation) -> None:
        """Record the call."""
        if self._keep:
            self.operations.append(operation)
        if self.setting.log:
            _append(self.setting.log, operation)

    def _disturb(self, operation: Operation) -> Instead | None:
        data = operation.data
        half = data[: max(1, len(data) // 2)]
        if self.setting.fault == "kill":
            if operation.kind == "write":
                _write_at(operation, half)
            os.kill(os.getpid(), signal.SIGKILL)
        if operation.kind != "write":
            return None
        if self.setting.fault == "short":
            return Instead(half, len(half))
        if self.setting.fault == "torn":
            return Instead(data[: len(data) // 2], len(data))
        return Instead(data[:-1] + bytes([data[-1] ^ 1]), len(data))


def from_setting(text: str) -> Faults:
    """The observer that SHARDKIT_FAULTS asks for."""
    return Faults(msgspec.json.decode(text, type=Setting))


def read_log(path: Path) -> Iterator[Operation]:
    """The operations in a log, in the order in which they ended."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield msgspec.msgpack.decode(data[at + 4 : at + 4 + size], type=Operation)
        at += 4 + size


def _append(path: str, operation: Operation) -> None:
    frame = _FRAME.encode(operation)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, len(frame).to_bytes(4, "little") + frame)
    finally:
        os.close(fd)


def _write_at(operation: Operation, data: bytes) -> None:
    fd = os.open(operation.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, operation.offset)
    finally:
        os.close(fd)
