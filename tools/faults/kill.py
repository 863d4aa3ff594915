"""Random SIGKILLs of the whole process tree of a build, also while it recovers, until it finishes.

Here: when to kill, chains of kills, which phase each hit.
Elsewhere: processes (tree.py), the hook that shows phases (shardkit.build.phase).

A kill comes after a random time from the first sign of work, or, every other time, as soon as the phase that was hit
least is open for the nth time: committing lasts milliseconds, and time alone would hardly ever hit it.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.build.phase import PHASES, VARIABLE, Phase, open_phases
from tools.faults.holds import problems_of_crash, problems_of_finished
from tools.faults.tree import Ended, Tree

BUILD_SECONDS = 120.0
POLL_SECONDS = 0.0005
CHAINS = (1, 1, 1, 2, 2, 3, 5)
"""How many kills one build suffers before it may finish."""

Hit = Phase | str


class Chain(NamedTuple):
    """One build killed again and again and then finished: workers, what each kill hit, what is wrong."""

    workers: int
    hits: list[Hit]
    problems: list[str]


class Killer:
    """Draws kills; remembers what was hit so far and how long a build works."""

    def __init__(self, spec: Path, golden: str, rng: random.Random, scratch: Path) -> None:
        self._spec, self._golden, self._rng, self._scratch = spec, golden, rng, scratch
        self.hits: Counter[Hit] = Counter()
        self._work_seconds = 0.5

    def chains(self, kills: int) -> Iterator[Chain]:
        """Chains until so many kills were delivered in all."""
        number = 0
        while self.hits.total() < kills:
            length = min(self._rng.choice(CHAINS), kills - self.hits.total())
            yield self._chain(number, 1 + number % 2, length)
            number += 1

    def _chain(self, number: int, workers: int, length: int) -> Chain:
        folder = self._scratch / f"chain-{number}"
        root = folder / "dataset"
        folder.mkdir(parents=True)
        hits: list[Hit] = []
        problems: list[str] = []
        for attempt in range(3 * length):  # one that finished before its kill came is no kill
            if len(hits) == length:
                break
            hit = self._kill_once(folder / f"run-{attempt}", root, workers)
            hits += [hit] if hit else []
            problems += problems_of_crash(root)
            if not hit:
                break
        self.hits.update(hits)
        ended = Tree(self._command(root, workers), folder / "last").wait(BUILD_SECONDS)
        problems += _problems_of_end(ended) or problems_of_finished(root, self._golden)
        if not problems:
            shutil.rmtree(folder)
        return Chain(workers, hits, problems)

    def _kill_once(self, run: Path, root: Path, workers: int) -> Hit:
        """Start a build and kill it; what was open then, or nothing where it had ended."""
        board = run.with_suffix(".phases")
        board.mkdir()
        tree = Tree(self._command(root, workers), run, {VARIABLE: json.dumps({"folder": str(board)})})
        target = self._rarest() if self._rng.random() < 0.5 else None
        self._wait_for_work(tree, board)
        began = time.monotonic()
        if target is None:
            self._sleep(tree, self._rng.uniform(0, self._work_seconds))
        else:
            self._wait_for(tree, board, target)
        ended = not tree.running()
        tree.kill()
        if ended:
            self._work_seconds = 0.8 * self._work_seconds + 0.2 * (time.monotonic() - began)
            return ""
        phases = open_phases(board)
        return phases[-1] if phases else "between"

    def _rarest(self) -> Phase:
        least = min(self.hits[name] for name in PHASES)
        return self._rng.choice([name for name in PHASES if self.hits[name] == least])

    def _wait_for_work(self, tree: Tree, board: Path) -> None:
        while tree.running() and not open_phases(board):
            time.sleep(POLL_SECONDS)

    def _wait_for(self, tree: Tree, board: Path, target: Phase) -> None:
        """Until `target` is the most advanced open phase, for the nth time that one looks and finds it."""
        times = self._rng.randrange(1, 4)
        while tree.running():
            phases = open_phases(board)
            times -= bool(phases) and phases[-1] == target
            if times <= 0:
                return
            time.sleep(POLL_SECONDS)

    def _sleep(self, tree: Tree, seconds: float) -> None:
        until = time.monotonic() + seconds
        while tree.running() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _command(self, root: Path, workers: int) -> list[str]:
        return ["shardkit", "build", str(self._spec), "--out", str(root), "--workers", str(workers), "--json"]


def _problems_of_end(ended: Ended) -> list[str]:
    if ended.code == 0:
        return []
    return [f"the resumed build ended with {ended.code}: {ended.stderr.strip()[-500:]}"]
