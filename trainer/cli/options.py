"""Options that several commands share, and printing.

Here: what stands in more than one command.
Elsewhere: the commands (train.py, evaluate.py), running them (main.py).
"""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any

import typer

from trainer.records import marked, strict_json

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="URL",
        help="Folder or URL of a dataset; several are mixed, each with a weight as a prefix: 0.7=URL. "
        "Default: data.datasets of the run's spec.",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a field of the spec by its path; profile=NAME adds one."),
]
ProfileOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="A profile of the spec or of specs/profiles.yaml; several with commas."),
]
CheckpointOption = Annotated[
    str,
    typer.Option(metavar="newest|best|PATH", help="Which of the run's: best is that of the least held-out loss."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per event on stdout.")]


def print_event(event: dict[str, Any]) -> None:
    """One JSON object on stdout; what is not finite is null, and named in `not_finite`."""
    show(strict_json(marked(event)))


def show_loss(value: float | None, digits: int = 3) -> str:
    """A loss to read; null, as JSON has what is no finite number, is said in words."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "not finite"


def over(samples: int) -> str:
    """Over how many samples a loss is, to be put behind it."""
    return f" over {samples:,} sample{'' if samples == 1 else 's'}"


def show(text: str) -> None:
    """Print lines of the command's output."""
    print(text, flush=True)  # noqa: T201 - this is the command line


def warn(text: str) -> None:
    """A warning on stderr."""
    print(f"trainer: warning: {text}", file=sys.stderr)  # noqa: T201 - this is the command line
