"""The commands that build: `build`, `status`, `schema`.

Here: their options.
Elsewhere: what they do (shardkit.build).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shardkit.cli.options import CatalogOption, JsonOption, SetOption, local_folder, named, show
from shardkit.errors import SpecError
from shardkit.exits import parse_settings


def build(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="A build spec in YAML, a mix, or a name in the catalog (see `sources`)."),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Default: data/NAME, or data/NAME-sample-N."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="N", help="At most N samples a source; `default`: each source's own number."),
    ] = None,
    total: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="N samples in all, in the ratio of the sources.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes of tar in all, such as 20GB, in the ratio of the sources.")
    ] = None,
    borrow: Annotated[
        bool | None, typer.Option("--borrow/--no-borrow", help="Others make up for what a source lacks of its quota.")
    ] = None,
    content_warnings: Annotated[
        bool, typer.Option("--with-content-warnings", help="Take sources too whose content is harmful.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Processes that run lanes; 0 runs all in this one.")] = 1,
    settings: SetOption = None,
    engine: Annotated[str, typer.Option(help="Where lanes run: `local`.")] = "local",
    update: Annotated[bool, typer.Option("--update", help="Let a changed spec make a new version.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show lanes, quotas, tools, estimates; write nothing.")
    ] = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a dataset, or go on with an interrupted build: the same command is the resume.

    SPEC is a file, a mix (censored, uncensored, fullstack, …) or an entry of the catalog, of which NAME:VARIANT is
    another reading.

    Example: shardkit build specs/builds/demo.yaml --sample 20 --workers 2

    Example: shardkit build slimorca --sample 5
    """
    from shardkit.build.progress import open_renderer
    from shardkit.build.quotas import bounded
    from shardkit.build.run import dry_run as run_dry
    from shardkit.curate.build import build as run_build
    from shardkit.plain import parse_size
    from shardkit.spec import open_spec

    if engine != "local":
        raise SpecError(f"--engine {engine}: this version has the engine `local` only")
    loaded = open_spec(named(spec, "SPEC"), parse_settings(settings), catalog)
    wanted = _sample_count(sample)
    if sample is not None and total is not None:
        raise SpecError("--sample is so many of each source, --total so many of all together; give one of them")
    loaded = bounded(
        loaded,
        total=total,
        budget_bytes=None if budget is None else parse_size(budget, "--budget"),
        borrow=borrow,
        content_warnings=content_warnings or None,
    )
    folder = default_folder(loaded.name, sample, total, budget) if out is None else Path(out)
    if out == "":
        raise SpecError("--out names no folder (an empty shell variable?); name one, or leave it out")
    if dry_run:
        plan = run_dry(loaded, out=folder, sample=wanted, workers=workers)
        show(msgspec.json.encode(plan).decode() if as_json else plan.text())
        return
    with open_renderer(as_json=as_json) as render:
        result = run_build(loaded, out=folder, sample=wanted, workers=workers, update=update, on_event=render)
    if not as_json:
        show(
            f"{result.dataset}: version {result.version}, {result.samples} samples, {result.dead_letters} dead letters"
        )


def status(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Folder of a build.")], as_json: JsonOption = False
) -> None:
    """What is built and what is left, from the same records that a resume reads.

    Example: shardkit status data/demo-sample-20
    """
    from shardkit.build.status import read_status

    found = read_status(local_folder(dataset))
    show(msgspec.json.encode(found).decode() if as_json else found.text())


def schema(out: Annotated[Path | None, typer.Option(help="Write to this file in place of stdout.")] = None) -> None:
    """Print the JSON Schema of build specs, for editors.

    Example: shardkit schema --out build.schema.json
    """
    from shardkit.spec import spec_schema

    text = msgspec.json.format(msgspec.json.encode(spec_schema()), indent=2).decode()
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        show(text)


def default_folder(name: str, sample: str | None, total: int | None = None, budget: str | None = None) -> Path:
    """Where a build goes without `--out`: data/NAME-sample-N and the like, or data/NAME for a full build."""
    bounds = {"sample": sample, "total": total, "budget": budget}
    return Path("data") / "-".join([name, *(f"{word}-{bound}" for word, bound in bounds.items() if bound is not None)])


def _sample_count(text: str | None) -> Any:
    if text is None or text == "default":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"--sample {text}: give a number of at least 1, or `default`")
    return int(text)
