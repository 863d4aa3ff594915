"""Options and arguments that several commands share, and printing.

Here: what stands in more than one command.
Elsewhere: the commands (build.py, look.py, keep.py), running them (main.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
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
FolderArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Folder of a dataset.")]
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


def local_folder(value: str) -> Path:
    """A dataset's folder on this machine; raises SpecError for a blank name and for a URL."""
    if "://" in value:
        raise SpecError(f"{value} is a URL; give the folder on this machine where its files lie")
    return Path(named(value, "DATASET"))


def words(text: str) -> list[str]:
    """The words of an option that takes several, between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def progress_bar(stack: ExitStack, stage: str) -> Callable[[str, int, int | None], None] | None:
    """A bar on stderr until the stack ends: a function of (stage, done, in all); none where it is no terminal."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task(stage, total=None)
    return lambda stage, done, total: progress.update(task, description=stage, completed=done, total=total)


def show(text: str) -> None:
    """Print a line of the command's output; what stands in data cannot steer the terminal."""
    print(printable(text), flush=True)  # noqa: T201 - this is the command line


def note(text: str) -> None:
    """Tell people something that is no part of the command's output."""
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the command line
