"""The command that trains: `train`.

Here: its options, what it shows while it runs.
Elsewhere: what it does (trainer.loop).
"""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from shardkit import parse_settings
from trainer.cli.evaluate import summary
from trainer.cli.options import DataOption, JsonOption, print_event, show


def train(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run spec in YAML.")],
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: runs/NAME.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, in place of the spec's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field of the spec by its path.")
    ] = None,
    profile: Annotated[str, typer.Option(help="A profile of the spec.")] = "",
    resume: Annotated[str, typer.Option(metavar="auto|none|PATH", help="Where to go on from.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train, or go on with an interrupted run: the same command is the resume.

    Example: trainer train specs/runs/demo.yaml --data data/demo-sample-20 --steps 100

    Several processes: torchrun --nproc-per-node 8 -m trainer train RUN --data URL
    """
    from trainer.spec import load_run

    given = parse_settings(settings)
    spec = load_run(run, {**given, "steps": str(steps)} if steps else given, profile)
    folder = out or Path("runs") / spec.name

    from trainer.eval.heldout import open_measure
    from trainer.loop import train as run_training

    watch = print_event if as_json else Lines(spec.steps).show
    outcome = run_training(spec, data or (), folder, resume=resume, report=watch, measure=open_measure())
    if outcome.rank:
        return  # rank 0 tells it
    if as_json:
        print_event({"event": "done", "folder": outcome.folder, "steps": outcome.steps, "plot": outcome.plot})
    else:
        show("\n".join(summary(outcome.folder, outcome.plot, outcome.held_out)))


class Lines:
    """Readable progress: about twenty lines a run, whatever its length."""

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // 20)
        self.steps = steps
        self._recent: deque[float] = deque(maxlen=20)

    def show(self, event: dict[str, Any]) -> None:
        """Print one event of the loop, or leave it out."""
        kind = event["event"]
        if kind == "warning":
            print(f"trainer: warning: {event['text']}", file=sys.stderr)  # noqa: T201 - warnings are shown here
        elif kind == "start":
            show(_beginning(event))
        elif kind == "step":
            self._recent.append(event["seconds"])
            if event["step"] % self.every == 0 or event["step"] in (1, self.steps):
                show(self._step(event))

    def _step(self, event: dict[str, Any]) -> str:
        parts = "  ".join(f"{kind} {loss:.2f}" for kind, loss in event["loss_by_modality"].items())
        left = (self.steps - event["step"]) * sum(self._recent) / len(self._recent)
        return (
            f"step {event['step']:>5}/{self.steps}  loss {event['loss']:.3f}  ({parts})  "
            f"{event['tokens_per_second']:,.0f} tokens/s  waiting {event['data_wait']:.0%}  {left:.0f} s left"
        )


def _beginning(event: dict[str, Any]) -> str:
    origin = f"resumed from {event['resumed_from']}" if event["resumed_from"] else "from the beginning"
    if event["step"] >= event["steps"]:
        return f"{origin}: {event['step']} steps are done, {event['steps']} were asked for; --steps N trains on to N"
    return (
        f"{origin}: steps {event['step'] + 1} to {event['steps']} on {event['samples']} samples, "
        f"{event['trainable']:,} of {event['parameters']:,} parameters train, on {event['device']}"
    )
