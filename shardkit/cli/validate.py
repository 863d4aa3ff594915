"""The commands that look whether data is good: `validate`, and `import`, which takes plain data in.

Here: their options.
Elsewhere: what they do (shardkit.curate).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shardkit.cli.options import JsonOption, named, progress_bar, show, words
from shardkit.errors import NoSamples, PolicyRefused, SpecError

ActionOption = typer.Option(metavar="keep|refuse|redact")


def validate(
    subject: Annotated[
        str,
        typer.Argument(metavar="DATASET|FILE|FOLDER", help="A dataset, or JSON lines with files beside them."),
    ],
    page: Annotated[Path | None, typer.Option(help="Write an HTML page with examples to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures as JSON to this file.")] = None,
    licences: Annotated[str, typer.Option(metavar="CLASS,…", help="Allowed: free, share-alike, mit, …")] = "",
    languages: Annotated[str, typer.Option(metavar="CODE,…", help="Allowed languages, as en,de.")] = "",
    secrets: Annotated[str, typer.Option(metavar="keep|refuse", help="What to do about keys and tokens.")] = "keep",
    personal: Annotated[str, typer.Option(metavar="keep|refuse", help="What to do about personal data.")] = "keep",
    gate: Annotated[
        list[str] | None,
        typer.Option(metavar="MEASURE=LEAST", help="Fail where a category is below: validity=0.99, distinct=0.6, …"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every sample: record, roles, media that decode, key, duplicates, and the rules given.

    Exit 1 where a sample is not good or a gate is broken; the report says which and why.

    Example: shardkit validate data/demo-sample-20 --licences free --secrets refuse --page validation.html
    """
    from shardkit.curate.quality import parse_gates
    from shardkit.curate.validate import ignore
    from shardkit.curate.validate import validate as run
    from shardkit.report.validation import write_validation
    from shardkit.spec import Rules, convert_spec

    if "redact" in (secrets, personal):
        raise SpecError("validate changes nothing: give keep or refuse here; `shardkit import` and builds redact")
    raw: dict[str, Any] = {"licences": words(licences), "languages": words(languages)}
    rules = convert_spec({**raw, "secrets": secrets, "personal": personal}, Rules, "shardkit validate")
    gates = parse_gates(gate or [])
    with ExitStack() as stack:
        bar = None if as_json else progress_bar(stack, "checking")
        told = (lambda done, total: bar("checking", done, total)) if bar else ignore
        found = run(named(subject, "DATASET"), rules, gates, told)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if page is not None:
        write_validation(found, page)
    show(msgspec.json.encode(found).decode() if as_json else found.text())
    if not found.passed:
        bad = found.samples - found.good
        raise PolicyRefused(f"{subject}: {bad:,} samples are not good, {len(found.broken_gates)} gates are broken")


def import_plain(
    source: Annotated[str, typer.Argument(metavar="FILE|FOLDER", help="JSON lines with messages and media files.")],
    out: Annotated[str | None, typer.Option(metavar="DATASET", help="Default: data/NAME.")] = None,
    licence: Annotated[str, typer.Option(help="The licence of rows that name none.")] = "",
    secrets: Annotated[str, ActionOption] = "keep",
    personal: Annotated[str, ActionOption] = "keep",
    workers: Annotated[int, typer.Option(min=0, max=256, help="Processes; 0 runs all in this one.")] = 1,
    update: Annotated[bool, typer.Option("--update", help="Take in what changed as a new version.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of plain JSON lines: `messages`, and `modalities` (or `images`, `audios`, `videos`) with paths.

    It is a build: interrupted, the same command goes on; rows that are not good become dead letters with a reason.

    Example: shardkit import older/train.jsonl --out data/older --licence cc-by-4.0
    """
    from shardkit.build.progress import open_renderer
    from shardkit.curate.build import build
    from shardkit.curate.plain import plain_spec
    from shardkit.spec import Rules, convert_spec

    rules = convert_spec({"secrets": secrets, "personal": personal}, Rules, "shardkit import")
    spec = plain_spec(Path(named(source, "FILE")), licence=licence, rules=rules if rules != Rules() else None)
    folder = Path("data") / spec.name if out is None else Path(named(out, "--out"))
    try:
        with open_renderer(as_json=as_json) as render:
            result = build(spec, out=folder, workers=workers, update=update, on_event=render)
    except NoSamples as error:
        raise NoSamples(
            f"{error}; rows need `messages` or `modalities`, other columns are read by a build spec (kind: jsonl, and "
            "a normalizer such as question_answer)"
        ) from None
    if not as_json:
        show(f"{folder}: version {result.version}, {result.samples} samples, {result.dead_letters} dead letters")
