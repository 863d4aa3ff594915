"""The command that leaves out what is said twice, and what a benchmark asks: `dedup`.

Here: its options, its progress, what it prints.
Elsewhere: what it does (shardkit.curate.dedup), the page (shardkit.report.duplicates).
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

from shardkit.cli.options import DatasetArgument, JsonOption, named, show
from shardkit.errors import SpecError

if TYPE_CHECKING:
    from shardkit.curate.dedup import DedupResult, How
    from shardkit.curate.options import Compared, DedupOptions

MOST_WORKERS = 8


def dedup(
    dataset: DatasetArgument,
    text: Annotated[bool, typer.Option("--text", help="Compare texts.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Compare images and keyframes.")] = False,
    audio: Annotated[bool, typer.Option("--audio", help="Compare recordings and sound tracks.")] = False,
    threshold: Annotated[
        float, typer.Option(metavar="J", help="Least Jaccard similarity of near texts: runs of three words, 0.5 to 1.")
    ] = 0.8,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", metavar="BENCHMARK", help="A dataset or JSON lines whose rows must not be in it; may repeat."
        ),
    ] = None,
    run_words: Annotated[
        int, typer.Option(metavar="N", help="Words in a row that a sample may not share with a benchmark's row.")
    ] = 13,
    only_against: Annotated[
        bool, typer.Option("--only-against", help="Look for benchmarks' rows alone, not for duplicates.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the page; publish nothing.")] = False,
    out: Annotated[Path, typer.Option(help="The page of a dry run.")] = Path("duplicates.html"),
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes. Default: one a core, at most 8.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a version without near-duplicates, and without samples that hold rows of benchmarks.

    Compares text, images and audio, or what is named: samples are near-duplicates where all of it is. The first stays.
    Shards are not touched and older versions stay; run again, it changes nothing.

    Example: shardkit dedup data/mine --against gsm8k.jsonl --dry-run
    """
    from shardkit.curate.dedup import How, ignore
    from shardkit.curate.dedup import dedup as run

    options = _options({"text": text, "images": images, "audio": audio}, threshold, against, run_words, only_against)
    processes = min(os.cpu_count() or 1, MOST_WORKERS) if workers is None else workers
    with ExitStack() as stack:
        how = How(workers=processes, on_progress=ignore if as_json else _bar(stack))
        if dry_run:
            made, page = _look(named(dataset, "DATASET"), options, how, out)
        else:
            made, page = run(named(dataset, "DATASET"), options, how), None
    _finish(made, as_json, page)


def _options(
    chosen: dict[Compared, bool], threshold: float, against: list[str] | None, run_words: int, only_against: bool
) -> DedupOptions:
    from shardkit.curate.options import EVERYTHING, DedupOptions

    picked = tuple(name for name, wanted in chosen.items() if wanted)
    if only_against and (picked or not against):
        raise SpecError("--only-against compares nothing: leave out --text, --images, --audio, and give --against")
    return DedupOptions(
        compare=() if only_against else picked or EVERYTHING,
        threshold=threshold,
        against=tuple(named(one, "--against") for one in against or ()),
        run_words=run_words,
    )


def _look(url: str, options: DedupOptions, how: How, out: Path) -> tuple[DedupResult, Path | None]:
    """What would be left out, and the page that shows it."""
    from shardkit.curate.dedup import find, open_one, result, scratch_folder
    from shardkit.report.duplicates import write_duplicates

    dataset = open_one(url)
    with scratch_folder() as folder:
        found = find(dataset, options, folder, how)
    return result(dataset, found), write_duplicates(dataset, found, out)


def _finish(made: DedupResult, as_json: bool, page: Path | None) -> None:
    if as_json:
        done = {"event": "done", **msgspec.to_builtins(made), "dry_run": page is not None}
        show(msgspec.json.encode(done | ({"page": str(page)} if page else {})).decode())
        return
    near = f"{made.near_duplicates:,} near-duplicates in {made.clusters:,} clusters"
    counts = [f"{made.duplicates:,} duplicates", near]
    counts += [f"{count:,} with rows of {name}" for name, count in made.contaminated.items()]
    show(f"{made.dataset}: {', '.join(counts)}; {made.compared:,} samples compared")
    for benchmark in made.benchmarks:
        if benchmark.too_short:
            show(f"{benchmark.name}: {benchmark.too_short:,} of {benchmark.rows:,} rows are too short to be looked for")
    if made.unreadable:
        show(f"{made.unreadable:,} samples have no record and were not compared")
    if made.crowded:
        show(f"{made.crowded:,} times a sample shares a template with so many that 1,000 of them were compared")
    if page is not None:
        show(f"{page}: nothing is published in a dry run")
    elif made.unchanged:
        show(f"version {made.version} stays as it is")
    else:
        show(f"version {made.version}, {made.samples:,} samples, {made.omitted:,} left out of {made.parent}")


def _bar(stack: ExitStack) -> Callable[[str, int, int], None]:
    from shardkit.curate.dedup import ignore

    if not sys.stderr.isatty():
        return ignore
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("reading", total=None)
    return lambda stage, done, total: progress.update(task, description=stage, completed=done, total=total)
