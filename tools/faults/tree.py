"""Builds as the command runs them, in a process group of their own that can be killed as a whole.

Here: starting, killing, waiting until nothing of the tree lives, its memory.
Elsewhere: when to kill (kill.py), a server of warm processes for strace (warm.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent


class Ended(NamedTuple):
    """How a command ended: exit code (negative: the signal), its outputs."""

    code: int
    stdout: str
    stderr: str


class Tree:
    """A running command with all its children. Outputs go to files beside `outputs`."""

    def __init__(self, arguments: Sequence[str], outputs: Path, environment: Mapping[str, str] | None = None) -> None:
        self._outputs = outputs
        with outputs.with_suffix(".out").open("wb") as out, outputs.with_suffix(".err").open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the group."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the command itself still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the whole group; returns when nothing of it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + 10
        while members(self.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {members(self.pid)} outlived SIGKILL to their group")
            time.sleep(0.002)

    def wait(self, seconds: float) -> Ended:
        """Wait for the end; raises RuntimeError, the tree killed, where it takes longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"a build still ran after {seconds} s; it was killed") from None
        texts = [self._outputs.with_suffix(end).read_text(errors="replace") for end in (".out", ".err")]
        return Ended(code, *texts)


def members(group: int) -> list[int]:
    """Living processes of a group (dead ones that nobody has waited for are none)."""
    return [int(fields[0]) for fields in _processes() if int(fields[4]) == group and fields[2] not in "ZX"]


def peak_memory(group: int) -> dict[int, int]:
    """The highest resident memory so far, in bytes, of each living process of a group."""
    found = {}
    for pid in members(group):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    found[pid] = int(line.split()[1]) * 1024
    return found


def _processes() -> list[list[str]]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            pid, _, rest = (folder / "stat").read_text(errors="replace").partition(" (")
            found.append([pid, "", *rest.rpartition(") ")[2].split()])
    return found
