"""The commands that build: `build`, `status`, `schema`.

Here: their options.
Elsewhere: what they do (shardkit.build).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shardkit.cli.options import JsonOption, SetOption, show
from shardkit.errors import SpecError
from shardkit.exits import parse_settings


def build(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A build spec in YAML.")],
    out: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Default: data/NAME, or data/NAME-sample-N."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="N", help="At most N samples a source; `default`: each source's own number."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Processes that run lanes; 0 runs all in this one.")] = 1,
    settings: SetOption = None,
    engine: Annotated[str, typer.Option(help="Where lanes run: `local`.")] = "local",
    update: Annotated[bool, typer.Option("--update", help="Let a changed spec make a new version.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show lanes, quotas, tools, estimates; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a dataset, or go on with an interrupted build: the same command is the resume.

    Example: shardkit build specs/builds/demo.yaml --sample 20 --workers 2
    """
    from shardkit.build.progress import open_renderer
    from shardkit.build.run import dry_run as run_dry
    from shardkit.curate.build import build as run_build
    from shardkit.spec import load_spec

    if engine != "local":
        raise SpecError(f"--engine {engine}: this version has the engine `local` only")
    loaded = load_spec(spec, parse_settings(settings))
    wanted = _sample_count(sample)
    folder = default_folder(loaded.name, sample) if out is None else Path(out)
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
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a build.")], as_json: JsonOption = False
) -> None:
    """What is built and what is left, from the same records that a resume reads.

    Example: shardkit status data/demo-sample-20
    """
    from shardkit.build.status import read_status

    found = read_status(dataset)
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


def default_folder(name: str, sample: str | None) -> Path:
    """Where a build goes without `--out`: data/NAME-sample-N, or data/NAME for a full build."""
    return Path("data") / (name if sample is None else f"{name}-sample-{sample}")


def _sample_count(text: str | None) -> Any:
    if text is None or text == "default":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"--sample {text}: give a number of at least 1, or `default`")
    return int(text)
