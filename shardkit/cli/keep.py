"""The commands that keep a dataset whole: `verify`.

Here: their options.
Elsewhere: what they do (shardkit.store, shardkit.report.verifying).
"""

from __future__ import annotations

from typing import Annotated

import typer

from shardkit.cli.options import DatasetArgument, JsonOption


def verify(
    dataset: DatasetArgument,
    version: Annotated[str | None, typer.Option(help="Verify this version in place of the current one.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every image, sound and frame as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every byte: the chain of digests, the tars, every sample and member. Exit 4 names what is damaged.

    Example: shardkit verify data/demo-sample-20 --deep
    """
    from shardkit.media.prepare import check_member
    from shardkit.report.verifying import report_verify
    from shardkit.store.urls import open_store

    damages = report_verify(open_store(dataset), version=version, deep=check_member if deep else None, as_json=as_json)
    if damages:
        raise typer.Exit(4)
