"""The command `shardkit`: build, look at, verify and serve datasets.

Here: options, exit codes, and how errors and signals are shown.
Elsewhere: everything that the commands do; each imports its room when it runs.
"""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shardkit.errors import SpecError
from shardkit.exits import exit_codes, parse_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Stream any source into content-addressed WebDataset shards.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 partly done, 4 damage found, 130/143 interrupted.\n\n"
    "Example: [bold]shardkit build specs/builds/demo.yaml --sample 20[/bold]",
)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per event on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Fill a variable of the spec or override a field by its path."),
]


def main() -> None:
    """Run the command line; ends the process with one of the exit codes in the help text."""
    with exit_codes("shardkit", _advice):
        app()


@app.command()
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
    from shardkit.build.run import build as run_build
    from shardkit.build.run import dry_run as run_dry
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
        _print(msgspec.json.encode(plan).decode() if as_json else plan.text())
        return
    with open_renderer(as_json=as_json) as render:
        result = run_build(loaded, out=folder, sample=wanted, workers=workers, update=update, on_event=render)
    if not as_json:
        _print(
            f"{result.dataset}: version {result.version}, {result.samples} samples, {result.dead_letters} dead letters"
        )


@app.command()
def status(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a build.")], as_json: JsonOption = False
) -> None:
    """What is built and what is left, from the same records that a resume reads.

    Example: shardkit status data/demo-sample-20
    """
    from shardkit.build.status import read_status

    found = read_status(dataset)
    _print(msgspec.json.encode(found).decode() if as_json else found.text())


@app.command()
def stats(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """What a dataset holds: version, samples, shards, bytes, counts by source and by modality.

    Example: shardkit stats data/demo-sample-20 --json
    """
    from shardkit.read.dataset import open_dataset
    from shardkit.report.stats import dataset_stats

    figures = dataset_stats(open_dataset(dataset))
    _print(msgspec.json.encode(figures).decode() if as_json else figures.text())


@app.command()
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


@app.command()
def schema(out: Annotated[Path | None, typer.Option(help="Write to this file in place of stdout.")] = None) -> None:
    """Print the JSON Schema of build specs, for editors.

    Example: shardkit schema --out build.schema.json
    """
    from shardkit.spec import spec_schema

    text = msgspec.json.format(msgspec.json.encode(spec_schema()), indent=2).decode()
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    else:
        _print(text)


@app.command()
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
        _print(f"serving {dataset} at {server.url} (Ctrl-C stops)")
        signal.pause()


@app.command()
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

    _print(str(write_report(open_dataset(dataset), out, per_source=per_source)))


def default_folder(name: str, sample: str | None) -> Path:
    """Where a build goes without `--out`: data/NAME-sample-N, or data/NAME for a full build."""
    return Path("data") / (name if sample is None else f"{name}-sample-{sample}")


def _sample_count(text: str | None) -> Any:
    if text is None or text == "default":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"--sample {text}: give a number of at least 1, or `default`")
    return int(text)


def _advice() -> str:
    """What to tell after a signal."""
    if sys.argv[1:2] != ["build"]:
        return ""
    return f"what is committed is kept. To go on, run: {shlex.join(['shardkit', *sys.argv[1:]])}"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the command line
