"""JSON as the trainer writes it: strict, and files beside a run that are written whole, again and again.

Here: the one encoder, replacing a file (run.json, held_out.json, chain.json, reference.json).
Elsewhere: what stands in them (run.py, stages.py, objective.py), files of lines (metrics), events (cli).

JSON has no NaN and no infinity (RFC 8259): what readers do with Python's words for them differs, most refuse the whole
line. Such a number is written as null; of lines and events, `not_finite` says which it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOT_FINITE = "not_finite"


def strict_json(value: Any, **form: Any) -> str:
    """A value as JSON that every reader takes: numbers that are not finite are null. `form` is that of json.dumps."""
    return json.dumps(_finite(value), allow_nan=False, **form)


def marked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An object with `not_finite` where it needs one: `nan`, `inf` or `-inf` by the dotted path of each such number."""
    odd = dict(_not_finite(entry, ""))
    return {**entry, **({NOT_FINITE: odd} if odd else {})}


def write_json(path: Path, value: Any) -> None:
    """Write a value into a file; whoever reads it meanwhile finds the old one or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(strict_json(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def is_number(value: Any) -> bool:
    """Whether a figure read from JSON is a finite number: not absent, not null, no NaN of older files."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, str(value)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _not_finite(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from _not_finite(each, f"{path}.{at}" if path else str(at))
