"""The command `shardkit`: build, look at, verify and serve datasets.

Here: the program, its list of commands, how errors and signals end it.
Elsewhere: the commands (build.py, curate.py, dedup.py, index.py, look.py, keep.py, sources.py, validate.py); each
imports its room when it runs.
"""

from __future__ import annotations

import shlex
import sys

import typer

from shardkit.cli.build import build, schema, status
from shardkit.cli.curate import split
from shardkit.cli.dedup import dedup
from shardkit.cli.index import index
from shardkit.cli.keep import repair, verify
from shardkit.cli.look import card, cat, licences, lineage, ls, report, serve, stats
from shardkit.cli.sources import app as sources
from shardkit.cli.validate import import_plain, validate
from shardkit.exits import exit_codes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Stream any source into content-addressed WebDataset shards.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 partly done, 4 damage found, 130/143 interrupted.\n\n"
    "Example: [bold]shardkit build specs/builds/demo.yaml --sample 20[/bold]",
)

for _command in (
    build, status, stats, index, ls, cat, lineage, licences, card, verify, repair, validate, split, dedup, schema,
    serve, report,
):  # fmt: skip
    app.command()(_command)
app.command("import")(import_plain)
app.add_typer(sources, name="sources")


def main() -> None:
    """Run the command line; ends the process with one of the exit codes in the help text."""
    with exit_codes("shardkit", _advice):
        app()


def _advice() -> str:
    """What to tell after a signal."""
    if sys.argv[1:2] not in (["build"], ["import"], ["index"], ["dedup"]):
        return ""
    return f"what is committed is kept. To go on, run: {shlex.join(['shardkit', *sys.argv[1:]])}"
