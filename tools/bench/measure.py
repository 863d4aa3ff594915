"""Rounds of all sides in turn, medians and ratios.

Here: what is measured beside what, and how often.
Elsewhere: the sides (ours.py, peers.py), tables (table.py).
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tools.bench import ours, peers
from tools.bench.workloads import WORKLOADS, Workload


class Side(NamedTuple):
    """One competitor: its name, what it needs installed, how it writes and reads, what a crash leaves of its files."""

    name: str
    package: str
    write: Callable[[Workload, Path], None]
    make: Callable[[Workload, Path], None]
    read: Callable[[Path], int] | None
    durability: str


NOTHING = "no fsync"
ENCODED = "no fsync; JSON encoded, all digests, index"
GIVEN = "no fsync; bytes given as to the peers"
SIDES = (
    Side("shardkit", "shardkit", ours.write_records, ours.make, ours.read, ENCODED),
    Side("shardkit, JSON given", "shardkit", ours.write_bytes, ours.make, None, GIVEN),
    Side("webdataset", "webdataset", peers.write_webdataset, peers.write_webdataset, peers.read_webdataset, NOTHING),
    Side("MosaicML MDS", "streaming", peers.write_mds, peers.write_mds, peers.read_mds, NOTHING),
    Side("LitData", "litdata", peers.write_litdata, peers.write_litdata, peers.read_litdata, NOTHING),
    Side("bare write + fsync", "os", peers.write_bare, peers.write_bare, None, "fsync; no container, no digest"),
    Side(
        "shardkit, full publish", "shardkit", ours.publish, ours.publish, None,
        "fsync of files and folders, read back, linked",
    ),
)  # fmt: skip


class Figure(NamedTuple):
    """Samples a second of one side: the median, and all rounds."""

    workload: str
    task: str
    side: str
    rate: float
    rounds: tuple[float, ...]
    durability: str


def measure(names: list[str], scale: float, rounds: int, folder: Path) -> list[Figure]:
    """Write and read every workload by every side, in interleaved rounds; medians."""
    figures: list[Figure] = []
    for name in names:
        workload = WORKLOADS[name](scale)
        _say(f"workload {workload.name}: {workload.about}")
        _warm_up(workload, folder)
        gc.collect()
        gc.freeze()  # no side's garbage collection walks through the workload
        figures += _writing(workload, rounds, folder)
        figures += _reading(workload, rounds, folder)
        gc.unfreeze()
    return figures


def _warm_up(workload: Workload, folder: Path) -> None:
    """Every side once on a few samples: nobody's imports are measured."""
    few = workload._replace(prepared=workload.prepared[:64], raw=workload.raw[:64])
    for side in _installed():
        target = _fresh(folder / "warm")
        side.make(few, target)
        if side.read is not None:
            side.read(target)
        side.write(few, _fresh(target))
        shutil.rmtree(target)


def _installed() -> list[Side]:
    return [side for side in SIDES if peers.available(side.package)]


def _writing(workload: Workload, rounds: int, folder: Path) -> list[Figure]:
    sides = _installed()
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            target = _fresh(folder / "write")
            seconds[side.name].append(_timed(lambda side=side, target=target: side.write(workload, target)))  # type: ignore[misc]
    shutil.rmtree(folder / "write")
    return [_figure(workload, "write", side, seconds[side.name]) for side in sides]


def _reading(workload: Workload, rounds: int, folder: Path) -> list[Figure]:
    sides = [side for side in _installed() if side.read is not None]
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number, side in enumerate(sides):
        side.make(workload, _fresh(folder / f"read-{number}"))
    for _ in range(rounds):
        for number, side in enumerate(sides):
            assert side.read is not None
            seconds[side.name].append(_timed_read(side.read, folder / f"read-{number}", workload))
    for number in range(len(sides)):
        shutil.rmtree(folder / f"read-{number}")
    return [_figure(workload, "read", side, seconds[side.name]) for side in sides]


def _timed_read(read: Callable[[Path], int], folder: Path, workload: Workload) -> float:
    seen: list[int] = []
    seconds = _timed(lambda: seen.append(read(folder)))
    if seen != [workload.size_bytes]:
        raise RuntimeError(f"{read.__name__} gave {seen[0]:,} bytes of {workload.size_bytes:,}: no fair comparison")
    return seconds


def _timed(work: Callable[[], None]) -> float:
    """Wall-clock seconds, begun with clean memory and nothing waiting for the disk."""
    gc.collect()
    os.sync()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _figure(workload: Workload, task: str, side: Side, seconds: list[float]) -> Figure:
    rates = tuple(len(workload.raw) / one for one in seconds)
    figure = Figure(workload.name, task, side.name, statistics.median(rates), rates, side.durability)
    _say(f"  {task:<6}{side.name:<24}{figure.rate:>12,.0f} samples/s")
    return figure


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
