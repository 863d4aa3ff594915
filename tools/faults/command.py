"""Failing disks seen through the command line: exit code, words, no traceback.

Here: `shardkit build` under the hook of shardkit.store.faults, then the resume.
Elsewhere: every call in one process (errors.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.faults import tiny
from tools.faults.errors import problems_of_message
from tools.faults.holds import problems_of_crash, problems_of_finished
from tools.faults.runner import record
from tools.faults.tree import Tree

FAULTS = ("enospc", "eio")
BUILD_SECONDS = 120.0


class Shown(NamedTuple):
    """One command that failed: the fault, its call, the workers, what the command said, what is wrong."""

    fault: str
    at: int
    workers: int
    words: str
    problems: list[str]


def fail_each(folder: Path, count: int) -> Iterator[Shown]:
    """Run the command with lasting faults at `count` calls spread over a build."""
    spec = tiny.write_build(folder, "least")
    golden, log = record(tiny.spec_of(folder, "least"), folder / "golden")
    for number in range(count):
        at = 1 + number * len(log) // count
        yield _fail(spec, golden, folder / f"{number}", FAULTS[number % 2], at)


def _fail(spec: Path, golden: str, folder: Path, fault: str, at: int) -> Shown:
    root, workers = folder / "dataset", at % 3
    folder.mkdir()
    command = ["shardkit", "build", str(spec), "--out", str(root), "--workers", str(workers)]
    setting = json.dumps({"fault": fault, "at": at, "lasting": True})
    failed = Tree(command, folder / "failed", {"SHARDKIT_FAULTS": setting}).wait(BUILD_SECONDS)
    words = failed.stderr.strip()
    problems = problems_of_message(words, root) + problems_of_crash(root) if failed.code else []
    if failed.code not in (0, 1):  # with several processes each counts its own calls: the last ones may never come
        problems.append(f"exit code {failed.code}, wanted 1")
    if "Traceback" in failed.stderr + failed.stdout:
        problems.append("a traceback was shown")
    resumed = Tree(command, folder / "resumed").wait(BUILD_SECONDS)
    problems += [f"the resume ended with {resumed.code}: {resumed.stderr}"] if resumed.code else []
    return Shown(fault, at, workers, words, problems + problems_of_finished(root, golden))
