"""Options and arguments that several commands share, and printing.

Here: what stands in more than one command.
Elsewhere: the commands (build.py, look.py, keep.py), running them (main.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardkit.errors import SpecError
from shardkit.exits import printable

DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="Folder or URL of a dataset; or of tars that others made, with braces or globs."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per event on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Fill a variable of the spec or override a field by its path."),
]
CatalogOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Entries of your own, before those of the catalog.")
]


def named(value: str, what: str) -> str:
    """An option's value; raises SpecError where it is blank, as an empty shell variable leaves it."""
    if not value.strip():
        raise SpecError(f"{what} names nothing (an empty shell variable?); name one, or leave it out")
    return value


def show(text: str) -> None:
    """Print a line of the command's output; what stands in data cannot steer the terminal."""
    print(printable(text), flush=True)  # noqa: T201 - this is the command line
