"""Rounds of all sides in turn, each measurement in a process of its own, medians.

Here: what is measured beside what, how often, and in which order.
Elsewhere: the sides (sides.py), one measurement (worker.py, resume.py), ratios (ratios.py), tables (table.py).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.bench.resume import STATE
from tools.bench.sides import SIDES, Side, Task
from tools.bench.workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parents[2]
READING: tuple[Task, ...] = ("read", "decode", "resume")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


class Plan(NamedTuple):
    """What is to be measured: workloads, tasks, sides (those that are installed), share of the workloads, rounds."""

    workloads: tuple[str, ...]
    tasks: tuple[Task, ...]
    sides: tuple[Side, ...]
    scale: float
    rounds: int


class Figure(NamedTuple):
    """One side at one task: the median and all rounds, in samples a second, or in seconds to resume; what to know."""

    workload: str
    task: Task
    side: str
    value: float
    rounds: tuple[float, ...]
    about: str


def installed(peers: bool) -> tuple[Side, ...]:
    """The sides that can be measured here: ours and the bare disk, with `peers` all."""
    known = ("shardkit", "bare")
    return tuple(side for side in SIDES if side.installed() and (peers or side.name.startswith(known)))


def measure(plan: Plan, folder: Path) -> list[Figure]:
    """Write and read every workload by every side, in interleaved rounds."""
    figures: list[Figure] = []
    for name in plan.workloads:
        workload = WORKLOADS[name](plan.scale)
        saved = folder / f"{name}.workload"
        workload.save(saved)
        say(f"workload {name}: {workload.about}")
        for task in plan.tasks:
            sides = [side for side in plan.sides if task in side.work]
            if task == "decode" and not workload.raw[0][1]:
                continue
            figures += (
                _reading(task, sides, plan, workload, folder)
                if task in READING
                else _writing(task, sides, plan, workload, folder)
            )
        saved.unlink()
    return figures


def _writing(task: Task, sides: list[Side], plan: Plan, workload: Workload, folder: Path) -> Iterator[Figure]:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(plan.rounds):
        for side in sides:
            answer = _worker(side, side.work[task], workload, folder, folder / "written")
            rate = None if answer is None else answer["samples"] / answer["seconds"]
            _note(found, workload, task, side, number, rate)
    shutil.rmtree(folder / "written", ignore_errors=True)
    yield from _figures(found, workload, task, {side.name: side.about(task) for side in sides})


def _reading(task: Task, sides: list[Side], plan: Plan, workload: Workload, folder: Path) -> Iterator[Figure]:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    about = {side.name: side.about(task) for side in sides}
    expected: dict[str, str] = {}
    for side in sides:
        data = folder / f"data-{workload.name}-{side.make.replace(':', '-')}"
        if not data.exists() and _worker(side, side.make, workload, folder, data) is None:
            shutil.rmtree(data, ignore_errors=True)
        if task == "resume":
            expected[side.name] = _save_state(side, data, workload)
    for number in range(plan.rounds):
        for side in sides:
            data = folder / f"data-{workload.name}-{side.make.replace(':', '-')}"
            if task == "resume":
                value, about[side.name] = _resume(side, data, expected[side.name])
            else:
                answer = _worker(side, side.work[task], workload, folder, data)
                value = None if answer is None else _rate(answer, task, workload, side)
            _note(found, workload, task, side, number, value)
    yield from _figures(found, workload, task, about)


def _rate(answer: dict[str, float], task: Task, workload: Workload, side: Side) -> float:
    """Samples a second; a side that gave other bytes than it was given is no competitor."""
    size = workload.size_bytes if task == "read" else 512 * 512 * 3 * len(workload.raw)
    if not 0.98 * size <= answer["bytes"] <= size or (task == "read" and answer["samples"] > len(workload.raw)):
        raise RuntimeError(f"{side.name} gave {answer['bytes']:,} bytes of {size:,}: no fair comparison")
    return answer["samples"] / answer["seconds"]


def _worker(side: Side, work: str, workload: Workload, folder: Path, target: Path) -> dict[str, float] | None:
    """One measurement; None where the side failed, which is shown and does not stop the others."""
    asked = {
        "work": work,
        "kind": "read" if work in {side.work.get(task) for task in READING} else "write",
        "workload": str(folder / f"{workload.name}.workload"),
        "folder": str(target),
        "records": side.records,
    }
    output = _run([side.python, "-m", "tools.bench.worker", json.dumps(asked)], side)
    found: dict[str, float] | None = json.loads(output.splitlines()[-1]) if output else None
    return found


def _save_state(side: Side, data: Path, workload: Workload) -> str:
    name = side.work["resume"].partition(":")[2]
    command = [side.python, "-m", "tools.bench.resume", name, str(data), str(len(workload.raw))]
    return _run(command, side).strip().rpartition("\n")[2]


def _resume(side: Side, data: Path, expected: str) -> tuple[float | None, str]:
    """Seconds from the start of the process until its first batch is there, and whether that is the right one."""
    if not expected or not (data / STATE).exists():
        return None, ""
    name = side.work["resume"].partition(":")[2]
    begin = time.perf_counter()
    output = _run([side.python, "-m", "tools.bench.resume", name, str(data)], side, begin)
    seconds, _, found = output.strip().rpartition("\n")[2].partition(" ")
    return float(seconds), "exact" if found == expected else "not exact"


def _run(command: list[str], side: Side, begin: float | None = None) -> str:
    """What a process prints; with `begin`, its last line behind the seconds until it came. Empty where it failed."""
    environment = {**os.environ, **OFFLINE}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [f"{time.perf_counter() - begin} {line}" if begin else line for line in process.stdout]
        _, errors = process.communicate()
    if process.returncode:
        say(f"  {side.name} failed: {errors.strip()[-2000:]}")
        return ""
    return "".join(lines)


def _note(
    found: dict[str, list[float]], workload: Workload, task: Task, side: Side, number: int, value: float | None
) -> None:
    if value:
        found[side.name].append(value)
        shown = f"{value:.2f} s" if task == "resume" else f"{value:,.0f} samples/s"
        say(f"  {workload.name} {task:<8}{side.name:<26}round {number + 1}: {shown}")


def _figures(found: dict[str, list[float]], workload: Workload, task: Task, about: dict[str, Any]) -> Iterator[Figure]:
    for name, values in found.items():
        if values:
            yield Figure(workload.name, task, name, statistics.median(values), tuple(values), about[name])


def say(line: str) -> None:
    """Progress, where the figures are not disturbed."""
    print(line, file=sys.stderr, flush=True)
