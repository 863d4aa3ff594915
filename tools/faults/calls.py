"""A kill at every mutating call of a build, counted in the one module through which everything writes.

Here: all calls one after the other, in this process, and killed again while recovering.
Elsewhere: the same with real signals at real system calls (strace.py), at random times (kill.py).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.spec import BuildSpec
from tools.faults.holds import problems_of_crash, problems_of_finished
from tools.faults.runner import Killed, Watch, build_here


class Kill(NamedTuple):
    """One build that was killed: at which calls (of the build, then of those that resumed it), and what is wrong."""

    calls: tuple[int, ...]
    problems: list[str]


def kill_at_calls(
    spec: BuildSpec, golden: str, calls: Iterable[int], rng: random.Random, scratch: Path
) -> Iterator[Kill]:
    """Kill a build at each of `calls`; every other one is killed once or twice more while it is being resumed."""
    for number, call in enumerate(calls):
        root = scratch / f"call-{call}" / "dataset"
        root.parent.mkdir(parents=True)
        again = [rng.randrange(1, 40) for _ in range(number % 2 * rng.randrange(1, 3))]
        killed, problems = [], []
        for at in (call, *again):
            try:
                build_here(spec, root, Watch(kill_at=at))
            except Killed:
                killed.append(at)
            problems += problems_of_crash(root)
        build_here(spec, root)
        yield Kill(tuple(killed), problems + problems_of_finished(root, golden))
        shutil.rmtree(root.parent)
