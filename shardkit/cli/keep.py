"""The commands that keep a dataset whole: `verify`, `repair`.

Here: their options.
Elsewhere: what they do (shardkit.store, shardkit.report.verifying).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardkit.cli.options import DatasetArgument, JsonOption, named
from shardkit.errors import SpecError


def verify(
    dataset: DatasetArgument,
    version: Annotated[str | None, typer.Option(help="Verify this version in place of the current one.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Look into records and decode media as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every byte against the chain of digests, as fast as it can be read. Exit 4 names what is damaged.

    With --deep, headers, records, keys and the index are compared with each other and every medium is decoded.

    Example: shardkit verify data/demo-sample-20 --deep
    """
    from shardkit.media.prepare import check_member
    from shardkit.report.verifying import report_verify, store_of

    damages = report_verify(store_of(dataset), version=version, deep=check_member if deep else None, as_json=as_json)
    if damages:
        raise typer.Exit(4)


def repair(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    mirror: Annotated[
        list[str] | None,
        typer.Option("--mirror", metavar="URL", help="Another copy to fetch from; may repeat."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Repair this version in place of the current one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what is damaged; change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a folder whole again: indexes rebuilt from their shards, all else fetched from a mirror and checked.

    Exit 4 names what is still damaged. Example: shardkit repair data/demo --mirror https://host/data/demo
    """
    from shardkit.report.verifying import report_repair
    from shardkit.store.urls import open_store

    if "://" in named(dataset, "DATASET"):
        raise SpecError(f"{dataset} is a URL; repair the folder where the files lie, with this URL as its --mirror")
    root = open_store(dataset).folder
    assert root is not None, "a path opens a folder"
    mirrors = [open_store(named(url, "--mirror")) for url in mirror or ()]
    if report_repair(Path(root), mirrors, version=version, dry_run=dry_run, as_json=as_json).left:
        raise typer.Exit(4)
