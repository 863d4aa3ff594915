"""The command that leaves out what is said twice, and what a benchmark asks: `dedup`.

Here: its options, its progress, what it prints.
Elsewhere: what it does (shardkit.curate.dedup), the page (shardkit.report.duplicates).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from shardkit.cli.options import CatalogOption, DatasetArgument, JsonOption, named, progress_bar, show
from shardkit.errors import SpecError

if TYPE_CHECKING:
    from shardkit.curate.dedup import DedupResult, How
    from shardkit.spec import Compared, DedupOptions

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
            "--against",
            metavar="BENCHMARK",
            help="A dataset, JSON lines, an entry of the catalog (NAME, NAME:VARIANT), or `benchmarks` for all of the "
            "catalog's, whose rows must not be in it; may repeat.",
        ),
    ] = None,
    skip_unreachable: Annotated[
        bool, typer.Option("--skip-unreachable", help="Go on without benchmarks that cannot be reached; say which.")
    ] = False,
    catalog: CatalogOption = None,
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

    Example: shardkit dedup data/mine --against gsm8k --against mine.jsonl --dry-run

    Example: shardkit dedup data/mine --only-against --against benchmarks
    """
    from shardkit.curate.dedup import How, ignore
    from shardkit.curate.dedup import dedup as run

    chosen: dict[Compared, bool] = {"text": text, "images": images, "audio": audio}
    raw = {"threshold": threshold, "run_words": run_words, "skip_unreachable": skip_unreachable}
    options = _options({**raw, "compare": _compared(chosen, only_against, against)}, against or [], catalog)
    processes = min(os.cpu_count() or 1, MOST_WORKERS) if workers is None else workers
    with ExitStack() as stack:
        how = How(workers=processes, on_progress=(None if as_json else progress_bar(stack, "reading")) or ignore)
        if dry_run:
            made, page = _look(named(dataset, "DATASET"), options, how, out)
        else:
            made, page = run(named(dataset, "DATASET"), options, how), None
    _finish(made, as_json, page)


def _compared(chosen: dict[Compared, bool], only_against: bool, against: list[str] | None) -> tuple[Compared, ...]:
    from shardkit.spec import EVERYTHING

    picked = tuple(name for name, wanted in chosen.items() if wanted)
    if only_against and (picked or not against):
        raise SpecError("--only-against compares nothing: leave out --text, --images, --audio, and give --against")
    return () if only_against else picked or EVERYTHING


def _options(raw: dict[str, Any], against: list[str], catalog: Path | None) -> DedupOptions:
    from shardkit.spec import DedupOptions, convert_spec
    from shardkit.spec.catalog.benchmarks import find_benchmarks
    from shardkit.spec.catalog.folder import catalog_folders

    names = [named(one, "--against") for one in against]
    given = {**raw, "against": find_benchmarks(names, catalog_folders(catalog))}
    return convert_spec(given, DedupOptions, "shardkit dedup")


def _look(url: str, options: DedupOptions, how: How, out: Path) -> tuple[DedupResult, Path | None]:
    """What would be left out, and the page that shows it."""
    from shardkit.curate.dedup import find, open_one, result, scratch_folder
    from shardkit.report.duplicates import write_duplicates

    dataset = open_one(url)
    with scratch_folder() as folder:
        found = find(dataset, options, folder, how._replace(pins=folder / "benchmarks"))
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
    for left_out in made.unreachable:
        show(f"{left_out.name}: {left_out.reason}; nothing was compared with it")
    for benchmark in made.benchmarks:
        if benchmark.revision:
            where = f"{benchmark.dataset or benchmark.name} at {benchmark.revision}"
            show(f"{benchmark.name}: compared with {benchmark.rows:,} rows of {where}")
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
