"""SIGKILL at every mutating system call of a build in one thread, delivered by strace.

Here: counting the calls that touch the dataset, one build killed at each, resumed and judged.
Elsewhere: the forked builds (warm.py), the same by a counter of our own (calls.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.spec import load_spec
from tools.faults.holds import problems_of_crash, problems_of_finished
from tools.faults.runner import build_here
from tools.faults.warm import Warm

MUTATING = (
    "open", "openat", "openat2", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "splice",
    "copy_file_range", "fallocate", "truncate", "ftruncate", "fsync", "fdatasync", "sync_file_range", "syncfs", "link",
    "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "mkdir",
    "mkdirat", "mknod", "mknodat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "utimensat", "setxattr",
)  # fmt: skip
"""Every system call that can change a file system; names that this machine lacks are skipped."""

OPENING = ("open", "openat", "openat2", "creat")
LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)$")


class Call(NamedTuple):
    """The nth call of a system call's name in a build, as strace counts."""

    name: str
    nth: int


class Kill(NamedTuple):
    """A build killed on entering a call: whether that call touched the dataset, and what is wrong."""

    call: Call
    inside: bool
    problems: list[str]


def why_not() -> str:
    """Why strace cannot be used here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.is_file() and scope.read_text().strip() in ("2", "3"):
        return f"attaching to other processes is forbidden here ({scope} is {scope.read_text().strip()})"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[-200:]}"


def count_calls(warm: Warm, spec: Path, scratch: Path) -> list[Call]:
    """All mutating calls of an undisturbed build that touch the dataset."""
    root = scratch / "counted" / "dataset"
    root.parent.mkdir(parents=True)
    log = scratch / "counted.strace"
    code = _run_traced(warm, spec, root, log, None)
    if code:
        raise RuntimeError(f"the build that is counted ended with {code} under strace")
    return list(_calls_inside(log, root))


def kill_at_calls(warm: Warm, spec: Path, golden: str, calls: Iterable[Call], scratch: Path) -> Iterator[Kill]:
    """Kill one build at each call, look at what is left, resume it."""
    for number, call in enumerate(calls):
        root = scratch / f"killed-{number}" / "dataset"
        root.parent.mkdir(parents=True)
        log = scratch / f"killed-{number}.strace"
        code = _run_traced(warm, spec, root, log, call)
        lines = [line for line in log.read_text(errors="replace").splitlines() if LINE.match(line)]
        inside = code == -9 and bool(lines) and _touches(lines[-1], root)
        problems = problems_of_crash(root)
        build_here(load_spec(spec), root)
        yield Kill(call, inside, problems + problems_of_finished(root, golden))
        shutil.rmtree(root.parent)


def _run_traced(warm: Warm, spec: Path, root: Path, log: Path, call: Call | None) -> int:
    """Build under strace, killed on entering `call`; the exit status of the build."""
    pid = warm.start(spec, root, traced=True)
    traced = ",".join(f"?{name}" for name in MUTATING)
    inject = [] if call is None else ["-e", f"inject={call.name}:signal=SIGKILL:when={call.nth}"]
    command = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", f"trace={traced}", *inject]
    tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    code = warm.wait()
    _, words = tracer.communicate(timeout=30)
    if "ttach" in words:  # attach: Operation not permitted
        raise RuntimeError(f"strace: {words.strip()}")
    return code


def _calls_inside(log: Path, root: Path) -> Iterator[Call]:
    counts: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        counts[match[1]] += 1
        if _touches(line, root):
            yield Call(match[1], counts[match[1]])


def _touches(line: str, root: Path) -> bool:
    """Whether a traced call changes something in the dataset's folder, or its name in the folder above."""
    match = LINE.match(line)
    if match is None or str(root.parent) not in line:
        return False
    return match[1] not in OPENING or "O_CREAT" in line
