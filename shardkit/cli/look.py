"""The commands that look at a dataset: `stats`, `report`, `serve`.

Here: their options.
Elsewhere: what they do (shardkit.report, shardkit.read).
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from shardkit.cli.options import DatasetArgument, JsonOption, show


def stats(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """What a dataset holds: version, samples, shards, bytes, counts by source and by modality.

    Example: shardkit stats data/demo-sample-20 --json
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report.stats import dataset_stats

    figures = dataset_stats(open_dataset(dataset))
    show(msgspec.json.encode(figures).decode() if as_json else figures.text())


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
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
) -> None:
    """Serve a dataset's folder over HTTP with range requests, until interrupted.

    Example: shardkit serve data/demo-sample-20 --port 8765
    """
    from shardkit.read.serve import serve_folder
    from shardkit.store.urls import require_dataset_folder

    require_dataset_folder(dataset)
    with serve_folder(dataset, host=host, port=port) as server:
        show(f"serving {dataset} at {server.url} (Ctrl-C stops)")
        signal.pause()
