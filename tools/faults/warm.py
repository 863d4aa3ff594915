"""A process with everything imported that forks one child a build, so that strace sees nothing but the build.

Here: the server (`python -m tools.faults.warm`) and its client.
Elsewhere: what is done to the children (strace.py).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.faults.tree import ROOT

SETTLE_SECONDS = 0.01
"""Between the moment when a child sees its tracer and its first call: strace has set up its filters by then."""

PATIENCE_SECONDS = 20.0
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = 2**64 - 1
"""Many systems let a process be traced by its ancestors alone, and strace is none of the child's."""


class Warm:
    """A server of forked builds; `with Warm() as warm`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, spec: Path, root: Path, *, traced: bool) -> int:
        """Fork a child that builds in one thread, once a tracer has come where `traced`; its process id."""
        pid: int = self._ask({"spec": str(spec), "root": str(root), "traced": traced})["pid"]
        return pid

    def wait(self) -> int:
        """The exit status of the child: 0, or as subprocess gives it (negative: the signal)."""
        code: int = self._ask({})["code"]
        return code

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def serve() -> None:
    """Answer questions until stdin closes."""
    from shardkit.spec import load_spec
    from tools.faults.runner import build_here

    pid = 0
    for line in sys.stdin:
        question = json.loads(line)
        if not question:
            print(json.dumps({"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}), flush=True)
            continue
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(load_spec, build_here, question, tell)
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        print(json.dumps({"pid": pid}), flush=True)


def _child(load_spec: Any, build_here: Any, question: dict[str, Any], tell: int) -> None:
    code = 1
    try:
        spec = load_spec(Path(question["spec"]))
        status = os.open("/proc/self/status", os.O_RDONLY)
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(PR_SET_PTRACER_ANY))  # no matter where it is not known
        os.write(tell, b".")
        if question["traced"]:
            _wait_for_tracer(status)
        time.sleep(SETTLE_SECONDS)
        build_here(spec, Path(question["root"]))
        code = 0
    finally:
        os._exit(code)


def _wait_for_tracer(status: int) -> None:
    """Reads a file that is open: from the moment when strace comes, no call of this loop may be one that it counts."""
    until = time.monotonic() + PATIENCE_SECONDS
    while b"TracerPid:\t0\n" in os.pread(status, 4096, 0) and time.monotonic() < until:
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
