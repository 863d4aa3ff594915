"""Plain JSON lines with files beside them, as a build sees them.

Here: the spec that reads them.
Elsewhere: reading them (sources.plain), building (curate.build), checking them (validate.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from shardkit.errors import SpecError
from shardkit.spec import BuildSpec, PlainSource, Rules, format_of
from shardkit.store.layout import POINTER_PATH

COLUMNS = {"id": "id", "category": "category", "licence": "licence"}
LINES = ("**/*.jsonl", "**/*.jsonl.gz", "**/*.jsonl.zst", "**/*.ndjson")


def plain_spec(path: Path, *, licence: str = "", name: str = "", rules: Rules | None = None) -> BuildSpec:
    """The build spec of a file of JSON lines, or of a folder of them; `licence` is that of rows without their own.

    Raises SpecError where there is no such file or folder, or it holds something else.
    """
    if not path.exists():
        raise SpecError(f"there is no {path}; give a dataset, a file of JSON lines, or a folder of them")
    _check_content(path)
    called = name or _name_of(path)
    source = PlainSource(
        name=called, path=str(path), normalizer="plain", columns=COLUMNS, licence=licence, include=LINES
    )
    return BuildSpec(name=called, sources=(source,), rules=rules, duplicates="omit")


def _check_content(path: Path) -> None:
    """Raises SpecError for a dataset, a folder without lines, a file whose name says that it is no JSON."""
    found = format_of(path.name)
    if (path / POINTER_PATH).exists():
        raise SpecError(f"{path} is a dataset already; `shardkit validate` checks it, a source of kind shards reads it")
    if path.is_file() and found not in ("", "jsonl", "json"):
        kind = "files" if found == "media" else found
        raise SpecError(f"{path} is no file of JSON lines; a build spec reads it by a source of kind {kind}")
    if path.is_dir() and not any(next(path.glob(pattern), None) for pattern in LINES):
        endings = ", ".join(pattern.rpartition("*")[2] for pattern in LINES)
        raise SpecError(f"{path} holds no JSON lines ({endings}); other files are read by the sources of a build spec")


def _name_of(path: Path) -> str:
    stem = path.resolve().name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:64] or "imported"
