"""SIGKILL of training at random moments: the resumed run has the same losses and weights, bit for bit.

Here: a small dataset and run, the kills, comparing with a run that nobody disturbed.
Elsewhere: the loop and its checkpoints (trainer), options and the summary (__main__.py).
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit import build_dataset, load_spec
from trainer.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12
SETTINGS = ("steps=12", "batch_size=4", "checkpoint.every=2", "eval.samples=4", "data.max_tokens=64")
EXACT = ("step", "loss", "loss_by_modality", "gradient_norm", "learning_rate", "tokens", "samples")
SECONDS = 300.0


class Killed(NamedTuple):
    """One run killed again and again until it ended: the steps after which it was killed, and what was wrong."""

    steps: tuple[int, ...]
    problems: tuple[str, ...]


class Trainee:
    """A run to be killed: its dataset, and what an undisturbed run of it leaves."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.data = scratch / "data"
        build_dataset(load_spec(ROOT / "specs" / "builds" / "demo.yaml"), out=self.data, sample=8, workers=0)
        self.whole = scratch / "whole"
        if self._start(self.whole).wait(SECONDS):
            raise RuntimeError("the undisturbed run failed; run `python -m tools.demo_run` to see why")

    def runs(self, kills: int, rng: random.Random) -> Iterator[Killed]:
        """Runs with one to three kills each, until so many kills have been made."""
        left, number = kills, 0
        while left > 0:
            number += 1
            done = self._one(self.scratch / f"run-{number}", min(left, rng.randint(1, 3)), rng)
            left -= max(1, len(done.steps))
            yield done

    def _one(self, out: Path, kills: int, rng: random.Random) -> Killed:
        steps = []
        for _ in range(kills):
            at = rng.randint(min(last_step(out), STEPS - 1), STEPS - 1)
            process = self._start(out)
            while process.poll() is None and last_step(out) < at:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                steps.append(last_step(out))
        code = self._start(out).wait(SECONDS)
        return Killed(tuple(steps), tuple(self._problems(out, code)))

    def _start(self, out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trainer", "train", str(ROOT / "specs" / "runs" / "demo.yaml")]
        command += ["--data", str(self.data), "--out", str(out)]
        for setting in SETTINGS:
            command += ["--set", setting]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _problems(self, out: Path, code: int) -> Iterator[str]:
        if code:
            yield f"{out.name}: the resumed run ended with {code}"
            return
        found, wanted = (
            [{name: line[name] for name in EXACT} for line in read_metrics(run)] for run in (out, self.whole)
        )
        if found != wanted:
            yield f"{out.name}: its metrics differ"
        last = Path("checkpoints") / f"step-{STEPS:08d}"
        for name in ("model.safetensors", "optimizer.safetensors"):
            if (out / last / name).read_bytes() != (self.whole / last / name).read_bytes():
                yield f"{out.name}: {name} differs"


def last_step(out: Path) -> int:
    """The last step that a run has written down; 0 before the first."""
    return max((line["step"] for line in read_metrics(out)), default=0)
