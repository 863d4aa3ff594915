"""The process that started the ranks: what happens when it is gone.

Here: a signal at its death where the system has one (Linux), asking for it now and then everywhere.
Elsewhere: ranks that are lost (world.py).

A launcher that is killed cannot end its ranks: they would go on without anybody who sees when one of them dies, beside
those of the same command run again. Each rank asks the system for a signal when its launcher dies; that one comes too
when only the launcher's thread ends, so its handler looks whether the process is there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from shardkit import ShardkitError

AGAIN = "run the same command again: it goes on from the newest checkpoint"
PR_SET_PDEATHSIG = 1
DEATH = getattr(signal, "SIGRTMIN", 0) + 8
"""A real-time signal: those with a name are sent by schedulers, which mean something else by them."""


class LauncherLost(ShardkitError):
    """The process that started this rank is gone."""


class Launcher:
    """The process that started this one, rank `rank` of `size`."""

    def __init__(self, rank: int, size: int) -> None:
        self._where = f"rank {rank} of {size}"
        self._process = os.getppid()

    def watch(self) -> None:
        """Have this process told when its launcher dies: `check` then raises in the main thread, at once.

        Without prctl, or in another thread, nothing happens: only `check` tells.
        """
        if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
            return
        signal.signal(DEATH, lambda number, frame: self.check())
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(DEATH), 0, 0, 0)

    def check(self) -> None:
        """Raises LauncherLost where the launcher is gone."""
        if os.getppid() != self._process:
            raise LauncherLost(f"{self._where}: torchrun, which started it, has ended or was killed; {AGAIN}")
