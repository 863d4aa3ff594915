"""Disks that fill up, fail, take less than asked, or lie: at every nth mutating call of a build.

Here: injecting each in this process, judging the error's words, the folder left behind and the resume.
Elsewhere: the injection (shardkit.store.faults), the same through the command line (command.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.errors import ShardkitError
from shardkit.spec import BuildSpec
from shardkit.store.faults import Fault, Faults, Setting
from tools.faults.holds import problems_of_crash, problems_of_finished
from tools.faults.runner import build_here


class Injection(NamedTuple):
    """One build with a fault: what, at which call, whether it lasted, whether it stopped the build, what is wrong."""

    setting: Setting
    stopped: bool
    problems: list[str]


KINDS: tuple[tuple[Fault, bool], ...] = (
    ("enospc", False), ("enospc", True), ("eio", False), ("eio", True), ("short", False), ("short", True),
    ("torn", False), ("flip", False),
)  # fmt: skip
"""Faults and whether each lasts. `short` says what it took; `torn` and `flip` claim all: only reading back sees it."""

SILENT: tuple[Fault, ...] = ("short", "torn", "flip")
"""Faults of writes alone: calls are counted over writes."""


def settings(calls: int, writes: int, every: int = 1) -> Iterator[Setting]:
    """Every fault at every (or every k-th) call."""
    for fault, lasting in KINDS:
        silent = fault in SILENT
        for at in range(1, (writes if silent else calls) + 1, every):
            yield Setting(fault=fault, at=at, lasting=lasting, kinds=("write",) if silent else ())


def inject_each(spec: BuildSpec, golden: str, chosen: Iterable[Setting], scratch: Path) -> Iterator[Injection]:
    """Build under each fault, look at what is left, resume without it."""
    for number, setting in enumerate(chosen):
        root = scratch / f"fault-{number}" / "dataset"
        root.parent.mkdir(parents=True)
        problems = []
        stopped = True
        try:
            version = build_here(spec, root, Faults(setting)).version
            stopped = False
            problems += [] if version == golden else [f"another version: {version}"]
        except ShardkitError as error:
            problems += problems_of_message(str(error), root)
        problems += problems_of_crash(root)
        build_here(spec, root)
        yield Injection(setting, stopped, problems + problems_of_finished(root, golden))
        shutil.rmtree(root.parent)


def problems_of_message(message: str, root: Path) -> list[str]:
    """What an error's words lack: what failed (the folder may still have to be made in its parent), and what to do."""
    named = [] if str(root.parent) in message else [f"names no file: {message}"]
    advice = ("run the same command again", "run again", "choose", "check the disk")
    return named + ([] if any(words in message for words in advice) else [f"says nothing to do: {message}"])
