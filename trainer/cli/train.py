"""The command that trains: `train`.

Here: its options.
Elsewhere: what it does (trainer.loop), what it shows while it runs (progress.py), a run of stages (chain.py), what
--dry-run shows (plan.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from shardkit import SpecError, parse_settings
from trainer.cli.chain import run_chain
from trainer.cli.evaluate import summary
from trainer.cli.options import DataOption, JsonOption, ProfileOption, SettingsOption, print_event, show, warn
from trainer.cli.plan import show_plan
from trainer.cli.progress import Lines
from trainer.spec import RunSpec, resolve_run, settings_path, stage_runs


def train(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run spec in YAML.")],
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: runs/NAME.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, in place of the spec's.")] = None,
    settings: SettingsOption = None,
    profile: ProfileOption = "",
    resume: Annotated[str, typer.Option(metavar="auto|none|PATH", help="Where to go on from.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained; read no weights.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --dry-run: plan for so many. Default: torchrun's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train, or go on with an interrupted run: the same command is the resume.

    A spec with stages trains them one after another, each in a folder of its own.
    `trainer config RUN` shows every setting and where it comes from.

    Example: trainer train specs/runs/demo.yaml --data data/demo-sample-20 --steps 100

    Several processes: torchrun --nproc-per-node 8 -m trainer train RUN --data URL
    """
    given = parse_settings(settings)
    if steps:
        _check_steps(steps, given)
        given["steps"] = str(steps)
    spec = resolve_run(run, given, profile, settings_path()).spec
    if steps and any(stage.steps for stage in spec.stages):
        name = next(stage.name for stage in spec.stages if stage.steps)
        raise SpecError(f"--steps {steps}: the stages of {run} say their own; use --set stages.{name}.steps={steps}")
    folder = out or Path("runs") / spec.name
    if dry_run:
        show_plan(spec, data or (), processes, as_json=as_json)
        return
    if processes:
        raise SpecError(f"--processes {processes} is for --dry-run; start so many by torchrun --nproc-per-node")
    with _checked_world(spec, data or ()):
        if spec.stages:
            run_chain(spec, data or (), folder, resume, as_json=as_json)
        else:
            _run(spec, data or (), folder, resume, as_json=as_json)


def _check_steps(steps: int, given: dict[str, str]) -> None:
    said = given.get("steps", str(steps)).strip()
    if said != str(steps):
        raise SpecError(f"--steps {steps} and --set steps={said} say different things; give one of them")


@contextmanager
def _checked_world(spec: RunSpec, data: Sequence[str]) -> Iterator[None]:
    """The run's processes, once rank 0 has found nothing wrong with any stage; before anything is loaded."""
    from trainer.checks import check_runs, short_warnings
    from trainer.distributed import open_world

    with open_world(spec.failure.timeout_seconds) as world:
        runs = stage_runs(spec) or (spec,)
        world.first(lambda: check_runs(runs, data, world.size))
        for told in (told for run in runs for told in short_warnings(run) if world.rank == 0):
            warn(told)
        yield


def _run(spec: RunSpec, data: Sequence[str], folder: Path, resume: str, *, as_json: bool) -> None:
    from trainer.eval.heldout import open_measure
    from trainer.loop import train as run_training

    with Lines(spec.steps) as lines:
        watch = print_event if as_json else lines.show
        outcome = run_training(spec, data, folder, resume=resume, report=watch, measure=open_measure())
    if outcome.rank:
        return  # rank 0 tells it
    if as_json:
        print_event({"event": "done", "folder": outcome.folder, "steps": outcome.steps, "plot": outcome.plot})
    else:
        show("\n".join(summary(outcome.folder, outcome.plot, outcome.held_out)))
