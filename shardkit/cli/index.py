"""The command that indexes tars that others made: `index`.

Here: its options, its progress.
Elsewhere: what it does (shardkit.read.foreign).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from shardkit.cli.options import JsonOption, named, show

if TYPE_CHECKING:
    from shardkit.read.foreign import Indexed, IndexResult

MOST_WORKERS = 8


def index(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Tars: paths or URLs, with braces or globs.")],
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the index goes. Default: beside the tars.")
    ] = None,
    require: Annotated[
        str, typer.Option(metavar="MEMBERS", help="Leave out samples without these, such as `jpg|png,txt`.")
    ] = "",
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Processes; 0: threads of this one. Default: one a core, at most 8."),
    ] = None,
    unended: Annotated[
        bool, typer.Option("--unended", help="Take tars that stop without the zero blocks at a tar's end.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Read all tars again, those that did not change too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Index tars that others made into a dataset, without copying them; run again, it goes on where it stopped.

    Tars that did not change are not read again.

    Example: shardkit index "data/shard-{000000..000127}.tar" --require jpg,txt
    """
    from shardkit.read.foreign import Indexing, index_tars
    from shardkit.read.tar_set import parse_wanted

    for url in urls:
        named(url, "a tar's URL")
    if out is not None:
        named(out, "--out")
    processes = min(os.cpu_count() or 1, MOST_WORKERS) if workers is None else workers
    how = Indexing(wanted=parse_wanted(require), workers=processes, unended=unended, again=again)
    with ExitStack() as stack:
        on_indexed = _print_json if as_json else _bar(stack)
        made = index_tars(urls, None if out is None else Path(out).expanduser(), how, on_indexed)
    _finish(made, as_json)


def _finish(made: IndexResult, as_json: bool) -> None:
    totals = made.manifest.totals
    if as_json:
        done = {
            "event": "done", "dataset": made.dataset, "version": made.version, "samples": totals.samples,
            "omitted": totals.omitted, "shards": totals.shards, "bytes": totals.bytes, "indexed": made.new,
        }  # fmt: skip
        show(msgspec.json.encode(done).decode())
        return
    lacking = f", {totals.omitted:,} left out that lack a member" if totals.omitted else ""
    counts = f"{totals.samples:,} samples in {totals.shards:,} tars ({made.new:,} read){lacking}"
    show(f"{made.dataset}: version {made.version}, {counts}")


def _print_json(event: Indexed) -> None:
    show(msgspec.json.encode(event).decode())


def _bar(stack: ExitStack) -> Callable[[Indexed], None] | None:
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("indexing {task.fields[tars]}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("indexing", total=None, tars="")

    def note(event: Indexed) -> None:
        tars = f"{event.done:,} of {event.total:,} tars"
        progress.update(task, completed=event.bytes, total=event.total_bytes, tars=tars)

    return note
