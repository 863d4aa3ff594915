"""The commands that make a new version over the same shards: `split`.

Here: their options.
Elsewhere: what they do (shardkit.curate).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from shardkit.cli.options import FolderArgument, JsonOption, local_folder, show, words
from shardkit.errors import SpecError


def split(
    dataset: FolderArgument,
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="NAME=SHARE,…", help="Shares that add up to 1.")
    ] = "train=0.95,val=0.025,test=0.025",
    seed: Annotated[int, typer.Option(help="Another seed is another division.")] = 0,
    by: Annotated[
        str, typer.Option(metavar="FACT,…", help="Balanced: source, category, modality, duration.")
    ] = "source,category,modality,duration",
    group: Annotated[
        str, typer.Option(metavar="FIELD,…", help="Kept together: source, category, id, provenance.NAME.")
    ] = "provenance.group",
    near: Annotated[bool, typer.Option("--near", help="Keep near-duplicates together; see `shardkit dedup`.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the figures; write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Divide a dataset into train, val and test: a new version over the same shards.

    What was split before by the same ratios and seed keeps its split when data is appended. Read one by the filter
    split=train.

    Example: shardkit split data/demo --ratios train=0.8,val=0.1,test=0.1 --near
    """
    from shardkit.curate.split import plan_split, split_dataset
    from shardkit.read.dataset import open_dataset
    from shardkit.spec import SplitOptions, convert_spec
    from shardkit.store.urls import require_dataset_folder

    raw = {"ratios": _ratios(ratios), "seed": seed, "by": words(by), "group": words(group), "near": near}
    options = convert_spec(raw, SplitOptions, "shardkit split")
    folder = local_folder(dataset)
    require_dataset_folder(folder)
    figures = plan_split(open_dataset(folder), options).figures if dry_run else split_dataset(folder, options)
    show(msgspec.json.encode(figures).decode() if as_json else figures.text(options.ratios))
    if not as_json and not dry_run:
        show(f"{dataset}: version {figures.version}")


def _ratios(text: str) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in words(text)]
    try:
        return {name.strip(): float(share) for name, _, share in pairs}
    except ValueError:
        raise SpecError(f"--ratios {text}: wanted NAME=SHARE,… such as train=0.9,test=0.1") from None
