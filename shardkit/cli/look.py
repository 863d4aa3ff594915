"""The commands that look at a dataset: `stats`, `ls`, `cat`, `lineage`, `licences`, `card`, `report`, `serve`.

Here: their options.
Elsewhere: what they do (shardkit.report, shardkit.read).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from shardkit.cli.options import DatasetArgument, FolderArgument, JsonOption, local_folder, named, note, show, words
from shardkit.errors import PolicyRefused, SpecError


def stats(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """What a dataset holds: version, samples, shards, bytes, counts by source and by modality.

    Example: shardkit stats data/demo-sample-20 --json
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report.stats import dataset_stats

    figures = dataset_stats(open_dataset(dataset))
    show(msgspec.json.encode(figures).decode() if as_json else figures.text())


def ls(
    dataset: DatasetArgument,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="For example 'modality~image,category=chart|diagram,images<3'.")
    ] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="List the rows that became no samples in place of the samples, and why.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List samples from the index alone: key, bytes, modalities, source and category, what it holds.

    Fields of a filter: modality, category, licence, source, split, images, pixels, frames, audio_ms, text_characters.

    Example: shardkit ls https://host/data/demo --where 'modality~image,text_characters<500' --limit 20

    Example: shardkit ls data/demo-sample-20 --refused
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.read.listing import list_refused, list_samples

    if refused and where is not None:
        raise SpecError("--where takes samples, --refused lists rows that are none; give one of them")
    opened, count = open_dataset(dataset), 0
    for listed in list_refused(opened, limit) if refused else list_samples(opened, where, limit):
        count += 1
        show(msgspec.json.encode(listed).decode() if as_json else listed.text())
    if not count and not as_json:
        told = "no row was refused" if refused else f"the filter takes none of {len(opened):,} samples"
        note(f"{dataset}: {told}")


def cat(
    dataset: DatasetArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A sample's key, or enough of its beginning.")],
    member: Annotated[str | None, typer.Option(metavar="NAME", help="Write this member's bytes to stdout.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write every member as a file into it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one sample: its record and the names of its members, read by range from wherever it lies.

    Example: shardkit cat https://host/data/demo 5f3a --member image0.png > image.png
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report import show as sample

    item = sample.find_sample(open_dataset(dataset), key)
    if member is not None:
        sys.stdout.buffer.write(sample.member(item, member))
        sys.stdout.buffer.flush()
    elif out is not None:
        for path in sample.write_members(item, Path(named(out, "--out"))):
            show(str(path))
    else:
        show(msgspec.json.encode(sample.as_json(item)).decode() if as_json else sample.as_text(item))


def lineage(
    dataset: DatasetArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A sample's key, or enough of its beginning.")],
    as_json: JsonOption = False,
) -> None:
    """Where a sample comes from: source, revision, row, steps, configuration, licence, versions and splits.

    Example: shardkit lineage data/demo-sample-20 5f3a
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report.lineage import trace_sample

    found = trace_sample(open_dataset(dataset), key)
    show(msgspec.json.encode(found).decode() if as_json else found.text())


def licences(
    dataset: DatasetArgument,
    allow: Annotated[
        str | None,
        typer.Option(metavar="CLASS,…", help="Fail where there are others: free, share-alike, mit, …"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sum the licences of a dataset up; under a policy (--allow), fail where it holds others.

    Classes, from the freest: free, share-alike, non-commercial, research, unknown.

    Example: shardkit licences data/demo-sample-20 --allow free,share-alike
    """
    from shardkit.curate.licences import sum_licences
    from shardkit.read.dataset import open_dataset

    policy = None if allow is None else words(named(allow, "--allow"))
    found = sum_licences(open_dataset(dataset), policy)
    show(msgspec.json.encode(found).decode() if as_json else found.text())
    if found.refused:
        told = ", ".join(f"{entry.source}: {entry.licence or 'none given'}" for entry in found.refused)
        raise PolicyRefused(
            f"{dataset}: not allowed by --allow {allow}: {told}; leave these sources out, or allow them"
        )


def card(
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option(help="Write to this file, .md or .html, in place of stdout.")] = None,
) -> None:
    """Print the data card of a version: contents, sources, licences, what was left out. Builds write it to cards/.

    Example: shardkit card data/demo-sample-20 --out card.html
    """
    from shardkit.curate.card import make_card, render_card
    from shardkit.read.dataset import open_dataset

    if out is not None and out.suffix not in (".md", ".html"):
        raise SpecError(f"--out {out}: a card is written as .md or .html")
    text = render_card(make_card(open_dataset(dataset)), out.suffix[1:] if out else "md")
    if out is None:
        show(text)
    else:
        out.write_text(text, encoding="utf-8")
        show(str(out))


def report(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    per_source: Annotated[int, typer.Option(min=1, max=100, help="Samples shown of each source.")] = 4,
) -> None:
    """Write a static HTML page: what a dataset holds, with samples to look at and listen to.

    Example: shardkit report data/demo-sample-20 --out demo.html
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report.page import write_report

    show(str(write_report(open_dataset(dataset), out, per_source=per_source)))


def serve(
    dataset: FolderArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
) -> None:
    """Serve a dataset's folder over HTTP with range requests, until interrupted.

    Example: shardkit serve data/demo-sample-20 --port 8765
    """
    from shardkit.read.serve import serve_folder
    from shardkit.store.urls import require_dataset_folder

    folder = local_folder(dataset)
    require_dataset_folder(folder)
    with serve_folder(folder, host=host, port=port) as server:
        show(f"serving {dataset} at {server.url} (Ctrl-C stops)")
        signal.pause()
