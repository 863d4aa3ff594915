"""The command `trainer`: train a run, measure a trained one.

Here: options, exit codes, how progress and errors are shown.
Elsewhere: everything that the commands do; torch is imported when a command runs, not for `--help`.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from shardkit import exit_codes, parse_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train multimodal models on shardkit datasets.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage or bad input, 4 damage found, 130/143 interrupted.\n\n"
    "Example: [bold]trainer train specs/runs/demo.yaml --data http://127.0.0.1:8765[/bold]",
)

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="URL",
        help="Folder or URL of a dataset; several are mixed, each with a weight as a prefix: 0.7=URL. "
        "Default: data.datasets of the run's spec.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per event on stdout.")]


def main() -> None:
    """Run the command line; ends the process with one of the exit codes in the help text."""
    with exit_codes("trainer", lambda: "the same command goes on from the newest checkpoint"):
        app()


@app.callback()
def _group() -> None:
    """Keep `train` a subcommand whatever their number."""


@app.command()
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
    """
    from trainer.spec import load_run

    given = parse_settings(settings)
    spec = load_run(run, {**given, "steps": str(steps)} if steps else given, profile)
    folder = out or Path("runs") / spec.name

    from trainer.eval.heldout import open_measure
    from trainer.loop import train as run_training

    show = print_event if as_json else Lines(spec.steps).show
    outcome = run_training(spec, data or (), folder, resume=resume, report=show, measure=open_measure())
    if as_json:
        print_event({"event": "done", "folder": outcome.folder, "steps": outcome.steps, "plot": outcome.plot})
    else:
        _print("\n".join(summary(outcome.folder, outcome.plot, outcome.held_out)))


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    data: DataOption = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many held-out samples.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """Held-out loss of a run's newest checkpoint, and with each medium exchanged among the samples.

    Example: trainer eval runs/demo --data data/demo-sample-20
    """
    from trainer.eval.command import evaluate_run

    found = evaluate_run(folder, data or (), samples)
    if as_json:
        print_event({"event": "done", **found})
    else:
        _print("\n".join(summary(str(folder), "", found)))


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
            _print(_beginning(event))
        elif kind == "step":
            self._recent.append(event["seconds"])
            if event["step"] % self.every == 0 or event["step"] in (1, self.steps):
                _print(self._step(event))

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


def summary(folder: str, plot: str, held_out: dict[str, Any]) -> list[str]:
    """The closing lines: held-out losses, what exchanged media cost, where everything lies."""
    lines = []
    before, after = held_out.get("before"), held_out.get("after")
    if after:
        start = f"{before['loss']:.3f} -> " if before else ""
        lines.append(f"held-out loss {start}{after['loss']:.3f}")
    for name, found in held_out.items():
        medium = name.removeprefix("shuffled_")
        if medium != name and found and after and medium in after["by_modality"]:
            own, other = after["by_modality"][medium], found["by_modality"][medium]
            lines.append(f"held-out {medium} loss {own:.3f}; with the {medium} of another sample {other:.3f}")
    lines += [f"plot {plot}"] if plot else []
    return [*lines, f"metrics, checkpoints and held-out losses in {folder}"]


def print_event(event: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    _print(json.dumps(event))


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the command line
