"""The training loop: step, report, keep.

Here: one run from its spec to its last checkpoint, fresh or resumed.
Elsewhere: one step (step.py), batches (data/stream.py), the model (model), losses,
checkpoints, what is printed (cli.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trainer.checkpoint import prune_checkpoints, save_checkpoint
from trainer.metrics import plot_loss
from trainer.run import Run, open_run
from trainer.spec import RunSpec
from trainer.step import train_step

Report = Callable[[dict[str, Any]], None]
Measure = Callable[[Run, str], None]
"""Called with `before`, `newest` (each eval.every steps), `after`; leaves what it measures with Run.note_held_out."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: its folder, steps done, held-out losses (`before`, `after`, `shuffled_image`, …)."""

    folder: str
    steps: int
    held_out: dict[str, Any]
    plot: str


def train(
    spec: RunSpec,
    data: str | Sequence[str],
    out: Path,
    *,
    resume: str = "auto",
    report: Report,
    measure: Measure | None = None,
) -> Outcome:
    """Train to `spec.steps` on the dataset at a path or URL; everything that the run leaves lies under `out`.

    `data` may be several, each with a weight as a prefix (`0.7=URL`); none takes the spec's data.datasets.

    `resume`: `auto` goes on from the newest whole checkpoint in `out`, `none` wants an empty folder, or the path of a
    checkpoint. `report` gets one dict per event: `start`, `warning`, `step`, `evaluation`, `checkpoint`. `measure`
    comes from eval.

    Raises ShardkitError: bad input (exit code 2), or TrainingFailed.
    """
    with open_run(spec, data, out, resume, report) as run:
        if measure and not run.step:
            measure(run, "before")
        for step in range(run.step + 1, spec.steps + 1):
            entry = run.metrics.write(train_step(run, step))
            if entry:
                report({"event": "step", **entry})
            if measure and spec.eval.every and (step % spec.eval.every == 0 or step == spec.steps):
                measure(run, "newest")
                if "newest" in run.held_out:
                    report({"event": "evaluation", "step": step, **run.held_out["newest"]})
            if step % spec.checkpoint.every == 0 or step == spec.steps:
                keep(run, step, report)
        if measure:
            measure(run, "after")
        plot = plot_loss(out)
    return Outcome(folder=str(out), steps=run.step, held_out=run.held_out, plot=str(plot or ""))


def keep(run: Run, step: int, report: Report) -> None:
    """Write a checkpoint and remove the oldest; metrics reach the disk first."""
    run.metrics.sync()
    began = time.perf_counter()
    path = save_checkpoint(run.checkpoints, run.progress, run.model, run.optimizer, run.speech)
    prune_checkpoints(run.checkpoints, run.spec.checkpoint.keep, path)
    stall = time.perf_counter() - began
    run.metrics.note(checkpoint_stall=stall)
    report({"event": "checkpoint", "step": step, "path": str(path), "stall": stall})
