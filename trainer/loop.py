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

from trainer.closing import closing_warnings
from trainer.distributed import open_world
from trainer.metrics import plot_loss
from trainer.run import Run, open_run
from trainer.spec import RunSpec
from trainer.step import train_step

__all__ = ["Measure", "Outcome", "Report", "train"]

Report = Callable[[dict[str, Any]], None]
Measure = Callable[[Run, str], None]
"""Called with `before`, `newest` (each eval.every steps), `after`; leaves what it measures with Run.note_held_out."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: its folder, steps done, held-out losses (`before`, `after`, `shuffled_image`, …); whose rank."""

    folder: str
    steps: int
    held_out: dict[str, Any]
    plot: str
    rank: int = 0


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
    comes from eval. Under torchrun every process calls this; rank 0 alone reports and writes.

    Raises ShardkitError: bad input (exit code 2), or TrainingFailed.
    """
    with open_world(spec.failure.timeout_seconds) as world, open_run(spec, data, out, resume, report, world) as run:
        if measure and not run.step:
            measure(run, "before")
        for step in range(run.step + 1, spec.steps + 1):
            with world.watch():
                entry = run.metrics.write(train_step(run, step))
            if entry:
                world.check_launcher()
                run.report({"event": "step", **entry})
            if measure and spec.eval.every and (step % spec.eval.every == 0 or step == spec.steps):
                measure(run, "newest")
                if "newest" in run.held_out:
                    run.report({"event": "evaluation", "step": step, **run.held_out["newest"]})
            if is_due(run, step):
                keep(run)
            run.tell(run.writer.done())
        run.tell(run.writer.finish())
        if measure:
            measure(run, "after")
        for text in closing_warnings(out, spec, run.speech.vocabulary) if world.is_first else ():
            run.report({"event": "warning", "text": text})
        plot = plot_loss(out) if world.is_first else None
    return Outcome(folder=str(out), steps=run.step, held_out=run.held_out, plot=str(plot or ""), rank=world.rank)


def is_due(run: Run, step: int) -> bool:
    """Whether a checkpoint is due: not while steps are being skipped, since the weights may be what is wrong."""
    return step == run.spec.steps or (step % run.spec.checkpoint.every == 0 and not run.progress.streak)


def keep(run: Run) -> None:
    """Hand a checkpoint to the writer, which removes the oldest; metrics reach the disk first."""
    run.metrics.sync()
    began = time.perf_counter()
    run.tell(run.writer.write(run.snapshot))
    run.metrics.note(checkpoint_stall=time.perf_counter() - began)
