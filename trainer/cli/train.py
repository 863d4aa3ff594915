"""The command that trains: `train`.

Here: its options.
Elsewhere: what it does (trainer.loop), what it shows while it runs (progress.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardkit import parse_settings
from trainer.cli.evaluate import summary
from trainer.cli.options import DataOption, JsonOption, print_event, show
from trainer.cli.progress import Lines


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

    with Lines(spec.steps) as lines:
        watch = print_event if as_json else lines.show
        outcome = run_training(spec, data or (), folder, resume=resume, report=watch, measure=open_measure())
    if outcome.rank:
        return  # rank 0 tells it
    if as_json:
        print_event({"event": "done", "folder": outcome.folder, "steps": outcome.steps, "plot": outcome.plot})
    else:
        show("\n".join(summary(outcome.folder, outcome.plot, outcome.held_out)))
