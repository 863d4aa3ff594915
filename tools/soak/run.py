"""The soak itself: a server, readers of a changing world that are killed, one long reader; all compared with one run.

Here: starting, killing, resuming, comparing the sequence, and whether memory and descriptors grow.
Elsewhere: what a reader does (reader.py), options (__main__.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import open_dataset, open_loader
from tools.conformance.datasets import Shape, make_tiny
from tools.soak.reader import READ_AHEAD, SEED, usage

ROOT = Path(__file__).resolve().parents[2]
SHAPE = Shape((400, 250, 1, 349), 16, {1: (3, 4, 5)}, "tar")
STEPS_AT_ONCE = (3, 8, 20, 40)
ENDLESS = 1 << 40
WORLDS = (1, 2, 3)
BATCHES = (1, 4, 7)
GROWTH = 0.05
"""Share by which memory may be larger at the end than in the middle; what is above it is a leak."""

LEAST_KIB = 8 << 10
SPARE = 12
"""Descriptors and threads more than in the middle: pools end a moment later than epochs do; a leak has no bound."""


class Figures(NamedTuple):
    """What a soak came to. Usage is (KiB, descriptors, threads): in the middle and at the end."""

    rounds: int
    kills_of_readers: int
    kills_of_servers: int
    steps: int
    samples: int
    epochs: int
    wrong: tuple[str, ...]
    long_reader_steps: int
    long_reader_middle: tuple[int, int, int]
    long_reader_end: tuple[int, int, int]
    seconds: float

    def as_json(self) -> str:
        """One object."""
        return json.dumps(self._asdict())


class Soak:
    """One soak in a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.data = folder / "data"
        make_tiny(self.data, SHAPE)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = self._serve()
        self.wanted = Sequence(self.data)
        self.counts = dict.fromkeys(("rounds", "readers", "servers", "steps", "samples"), 0)
        self.state: dict[str, Any] | None = None
        self.place = 0
        self.wrong: list[str] = []

    def run(self, seconds: float, rounds: int) -> Figures:
        """Rounds until the time or their number is over (0: no such bound)."""
        began = time.monotonic()
        long = LongReader(self)
        try:
            while not (
                (rounds and self.counts["rounds"] >= rounds) or (seconds and time.monotonic() - began > seconds)
            ):
                self._round()
            long.finish()
        finally:
            long.stop()
            _kill(self.server)
        took = round(time.monotonic() - began, 1)
        epochs = self.state["epoch"] if self.state else 0
        self.wrong += long.problems(self.wanted)
        return Figures(
            self.counts["rounds"], self.counts["readers"], self.counts["servers"], self.counts["steps"],
            self.counts["samples"], epochs, tuple(self.wrong), long.steps, long.middle, long.end, took,
        )  # fmt: skip

    def _round(self) -> None:
        """A world of readers, killed or let end; the server killed now and then; what all wrote down compared."""
        self.counts["rounds"] += 1
        ranks, batch = self.rng.choice(WORLDS), self.rng.choice(BATCHES)
        folder = self.folder / f"round-{self.counts['rounds']}"
        folder.mkdir()
        (folder / "start.json").write_text(json.dumps({"state": self.state}))
        steps, killed = self.rng.choice(STEPS_AT_ONCE), self.rng.random() < 0.6
        lasting = ENDLESS if killed else steps
        readers = [self.begin(folder, rank, (ranks, batch, self.rng.choice((0, 2)), lasting)) for rank in range(ranks)]
        if self.rng.random() < 0.5:
            self._kill_server_after(folder, self.rng.randrange(1, steps + 1))
        if killed:
            self._kill_after(folder, readers, self.rng.randrange(1, steps + 1))
        for reader in readers:
            reader.wait()
        self._compare(folder, ranks)

    def begin(self, folder: Path, rank: int, how: tuple[int, int, int, int]) -> subprocess.Popen[bytes]:
        """A reading process."""
        numbers = [str(number) for number in (rank, *how)]
        command = [sys.executable, "-m", "tools.soak.reader", self.url, str(folder), *numbers]
        with (folder / f"{rank}.err").open("wb") as errors:
            return subprocess.Popen(command, cwd=ROOT, stderr=errors, start_new_session=True)

    def _kill_after(self, folder: Path, readers: list[subprocess.Popen[bytes]], lines: int) -> None:
        """SIGKILL for all readers when the first rank has written so many lines."""
        _wait_for_lines(folder / "0.log", lines, readers[0])
        for reader in readers:
            if reader.poll() is None:
                self.counts["readers"] += 1
                _kill(reader)

    def _kill_server_after(self, folder: Path, lines: int) -> None:
        _wait_for_lines(folder / "0.log", lines, self.server)
        _kill(self.server)
        self.counts["servers"] += 1
        self.server = self._serve()

    def _compare(self, folder: Path, ranks: int) -> None:
        """All steps that every rank has written down; the state of the last one is where the next round begins."""
        logs = [_lines(folder / f"{rank}.log") for rank in range(ranks)]
        errors = "".join((folder / f"{rank}.err").read_text(errors="replace") for rank in range(ranks))
        if "Traceback" in errors:
            self.wrong.append(f"round {self.counts['rounds']}: {errors[-600:]}")
        for parts in zip(*logs, strict=False):
            keys = [key for part, _ in parts for key in part]
            if any(state != parts[0][1] for _, state in parts):
                self.wrong.append(f"round {self.counts['rounds']}: ranks differ in their states")
            wanted = self.wanted.take(self.place, len(keys))
            if keys != wanted:
                self.wrong.append(f"round {self.counts['rounds']}: {keys} at {self.place}, wanted {wanted}")
            self.counts["steps"] += 1
            self.counts["samples"] += len(keys)
            self.state = parts[0][1]
            self.place = self.wanted.place(self.state)

    def _serve(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "shardkit", "serve", str(self.data), "--port", str(self.port)]
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return server
            time.sleep(0.05)
        raise RuntimeError("the server did not begin")


class Sequence:
    """All samples one run gives, epoch after epoch, by a single rank of local files; the dropped rest of none."""

    def __init__(self, data: Path) -> None:
        self._dataset = open_dataset(data)
        self._epochs: dict[int, list[str]] = {}
        self.samples = len(self._dataset)

    def take(self, place: int, count: int) -> list[str]:
        """The samples at `place` and behind it, within its epoch."""
        epoch, position = divmod(place, self.samples)
        if epoch not in self._epochs:
            self._epochs = {epoch: self._read(epoch)}
        return self._epochs[epoch][position : position + count]

    def place(self, state: dict[str, Any]) -> int:
        """Where a state stands."""
        return int(state["epoch"] * self.samples + state["position"])

    def _read(self, epoch: int) -> list[str]:
        loader = open_loader(self._dataset, seed=SEED, batch_size=1, tail="split", read_ahead_bytes=READ_AHEAD)
        loader.load_state_dict(loader.state_dict() | {"epoch": epoch})
        return [item.key for batch in loader for item in batch]


class LongReader:
    """One reader that nobody kills, over the same server, which is killed under it; its memory is watched."""

    def __init__(self, soak: Soak) -> None:
        self._folder = soak.folder / "long"
        self._folder.mkdir()
        (self._folder / "start.json").write_text(json.dumps({"state": None}))
        self._process = soak.begin(self._folder, 0, (1, 4, 2, ENDLESS))
        self.steps = 0
        self.middle = self.end = (0, 0, 0)

    def finish(self) -> None:
        """Note what it did and what it takes."""
        if self._process.poll() is None:
            usage(self._process.pid)
        self.stop()
        found = [tuple(map(int, line.split())) for line in (self._folder / "0.usage").read_text().splitlines()[:-1]]
        self.steps = len(found)
        half = found[len(found) // 3 : len(found) // 2 + 1]
        last = found[-max(1, len(found) // 10) :]
        if found:
            self.middle, self.end = _most(half), _most(last)

    def stop(self) -> None:
        """End it."""
        _kill(self._process)

    def problems(self, wanted: Sequence) -> list[str]:
        """What it was given that it should not have been, and growth."""
        found = []
        place = 0
        for keys, state in _lines(self._folder / "0.log"):
            if keys != wanted.take(place, len(keys)):
                found.append(f"the long reader got other samples at {place}")
                break
            place = wanted.place(state)
        errors = (self._folder / "0.err").read_text(errors="replace")
        if "Traceback" in errors:
            found.append(f"the long reader: {errors[-600:]}")
        (kib, files, threads), (end_kib, end_files, end_threads) = self.middle, self.end
        if end_kib > kib * (1 + GROWTH) + LEAST_KIB:
            found.append(f"the long reader grew from {kib:,} to {end_kib:,} KiB")
        if end_files > files + SPARE or end_threads > threads + SPARE:
            found.append(f"descriptors and threads grew from {files}, {threads} to {end_files}, {end_threads}")
        return found


def _most(rows: list[Any]) -> tuple[int, int, int]:
    kib, files, threads = (max(column) for column in zip(*rows, strict=True))
    return kib, files, threads


def _lines(path: Path) -> Iterator[Any]:
    """Whole lines; what a kill cut short is left out."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as log:
        for line in log:
            if line.endswith("\n"):
                yield json.loads(line)


def _wait_for_lines(path: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    """Until a log has so many lines, or its writer has ended."""
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.005)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
