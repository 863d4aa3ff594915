"""What a build is doing at this moment, visible to the tests that kill or slow it.

Here: marks around the phases of a lane and of a build; a hook that only tests set.
Elsewhere: the work itself (lane.py, engine_local.py, finish.py); faults at single calls (store.faults).

SHARDKIT_PHASES, which only tests set, is JSON: `folder` gets a file per process, one byte per phase that counts how
often it is open at this moment, so that after a SIGKILL the files say what was hit; `seconds` slows phases down.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, get_args

import msgspec

Phase = Literal["planning", "reading", "media", "staging", "publishing", "committing", "finishing"]
PHASES: tuple[Phase, ...] = get_args(Phase)
VARIABLE = "SHARDKIT_PHASES"
_NOTHING = nullcontext()


class Hook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The setting: where to show open phases, and seconds to sleep at the beginning of some."""

    folder: str = ""
    seconds: dict[Phase, float] = {}


def phase(name: Phase) -> AbstractContextManager[object]:
    """A context that is `name`; free of cost without the hook."""
    return _NOTHING if _board is None else _board.mark(name)


def open_phases(folder: Path) -> tuple[Phase, ...]:
    """Phases that were open in any process when it was last alive, in the order of PHASES."""
    boards = [path.read_bytes().ljust(len(PHASES), b"\0") for path in sorted(folder.iterdir())]  # one may be just made
    return tuple(name for at, name in enumerate(PHASES) if any(board[at] for board in boards))


class Board:
    """The file in which this process shows its open phases."""

    def __init__(self, hook: Hook) -> None:
        self._seconds = hook.seconds
        self._lock = threading.Lock()
        self._counts: bytearray | mmap.mmap = bytearray(len(PHASES))
        if hook.folder:
            fd = os.open(Path(hook.folder) / str(os.getpid()), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(fd, len(PHASES))
            self._counts = mmap.mmap(fd, len(PHASES))
            os.close(fd)

    def mark(self, name: Phase) -> _Mark:
        """Count `name` as open until the context ends."""
        return _Mark(self, name)

    def change(self, name: Phase, by: int) -> None:
        """Open or end a phase once."""
        at = PHASES.index(name)
        with self._lock:
            self._counts[at] = (self._counts[at] + by) % 256
        if by > 0 and name in self._seconds:
            time.sleep(self._seconds[name])


class _Mark(AbstractContextManager[None]):
    def __init__(self, board: Board, name: Phase) -> None:
        self._board, self._name = board, name

    def __enter__(self) -> None:
        self._board.change(self._name, 1)

    def __exit__(self, *_: object) -> None:
        self._board.change(self._name, -1)


def _board_from_environment() -> Board | None:
    setting = os.environ.get(VARIABLE)
    return Board(msgspec.json.decode(setting, type=Hook)) if setting else None


_board = _board_from_environment()
