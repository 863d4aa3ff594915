"""The command that makes a trained model a folder for others: `export`.

Here: its options.
Elsewhere: what it does (trainer.export).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trainer.cli.options import CheckpointOption, DataOption, JsonOption, print_event, show, warn


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run, or a checkpoint.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to; new or empty.")],
    form: Annotated[str, typer.Option("--format", metavar="adapter|merged|deploy", help="What is written.")] = "merged",
    checkpoint: CheckpointOption = "newest",
    data: DataOption = None,
    max_shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Largest file of weights.")] = "5GB",
    as_json: JsonOption = False,
) -> None:
    """Write a model's adapters, its merged weights, or those with a model card; whole or not at all.

    Example: trainer export runs/demo --format deploy --data data/demo-sample-20 --out demo-model
    """
    from trainer.export.command import ExportJob, export_run

    fields: dict[str, Any] = {"folder": folder, "form": form, "out": out, "checkpoint": checkpoint}
    job = ExportJob(**fields, data=tuple(data or ()), shard_size=max_shard_size)
    trained = export_run(job, warn)
    if as_json:
        print_event({"event": "done", "folder": str(out), "format": form, "step": trained.progress.step})
    else:
        show(f"{form} of step {trained.progress.step} in {out}")
