"""Plain JSON lines with files beside them, as a build sees them.

Here: the spec that reads them.
Elsewhere: reading them (sources.plain), building (curate.build), checking them (validate.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from shardkit.errors import SpecError
from shardkit.spec import BuildSpec, PlainSource, Rules

COLUMNS = {"id": "id", "category": "category", "licence": "licence"}


def plain_spec(path: Path, *, licence: str = "", name: str = "", rules: Rules | None = None) -> BuildSpec:
    """The build spec of a file of JSON lines, or of a folder of them; `licence` is that of rows without their own.

    Raises SpecError where there is no such file or folder.
    """
    if not path.exists():
        raise SpecError(f"there is no {path}; give a dataset, a file of JSON lines, or a folder of them")
    called = name or _name_of(path)
    source = PlainSource(name=called, path=str(path), normalizer="plain", columns=COLUMNS, licence=licence)
    return BuildSpec(name=called, sources=(source,), rules=rules, duplicates="omit")


def _name_of(path: Path) -> str:
    stem = path.resolve().name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:64] or "imported"
