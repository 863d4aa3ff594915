"""Columns and their types, as an entry writes them and as they are found.

Here: types from the schema of parquet and from rows; what fits what.
Elsewhere: the grammar of types (spec.catalog.entry).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from shardkit.records.row import Row
from shardkit.sources.base import Source
from shardkit.sources.check.found import Finding, compared, unchecked

MEDIUM = "medium"
"""What a column is found to be that holds {bytes, path}: which medium it is, only its bytes tell."""
NOTHING = "nothing"
"""The type of a column in which no value was seen: it may be any."""

PLAIN: dict[type, str] = {
    bool: "bool", int: "int", float: "float", str: "string", bytes: "binary", type(None): NOTHING,
}  # fmt: skip
SEEN_ROWS = 20
"""Rows that are looked at where a file has no schema."""
FITS = {
    "image": {MEDIUM, "binary"},
    "audio": {MEDIUM, "binary"},
    "video": {MEDIUM, "binary"},
    "binary": {"binary", MEDIUM},
    "class": {"int", "string"},
    "float": {"float", "int"},
    "date": {"date", "string"},
}
"""Types that are found where an entry says another one, and that fit."""


def fits(wanted: str, found: str) -> bool:
    """Whether what was found is what an entry says; inner names of a struct are a part of those that there are."""
    if found == NOTHING:
        return True
    if wanted.startswith("list<"):
        return found.startswith("list<") and fits(wanted[5:-1], found[5:-1])
    if wanted.partition("<")[0] == "struct":
        return found.partition("<")[0] == "struct" and names_of(wanted) <= names_of(found)
    return found in FITS.get(wanted, {wanted})


def names_of(struct: str) -> set[str]:
    """The names in `struct<a,b>`."""
    return set(filter(None, struct.partition("<")[2].rstrip(">").split(",")))


def compare_columns(columns: Mapping[str, str], found: Mapping[str, str], *, complete: bool) -> Iterator[Finding]:
    """An entry's columns against those of the data, which may have others; `complete`: the data have no more."""
    absent = [name for name in columns if name not in found]
    if complete and absent:
        yield compared("columns", ", ".join(absent), f"none of that name; there are: {', '.join(found)}")
    for name, wanted in columns.items():
        kind = found.get(name)
        if kind is not None:
            yield compared("columns", f"{name} {wanted}", f"{name} {kind}", same=fits(wanted, kind))
    if not complete and len(absent) == len(columns):
        yield unchecked("columns", "no row was seen")


def schema_types(schema: Any) -> dict[str, str]:
    """Types by column of a parquet file's schema."""
    return {field.name: arrow_type(field.type) for field in schema}


def arrow_type(kind: Any) -> str:
    """The type of an entry that is nearest to an Arrow type."""
    import pyarrow

    checks = pyarrow.types
    if checks.is_struct(kind):
        names = [field.name for field in kind]
        return MEDIUM if set(names) == {"bytes", "path"} else f"struct<{','.join(names)}>"
    if checks.is_list(kind) or checks.is_large_list(kind) or checks.is_fixed_size_list(kind):
        return f"list<{arrow_type(kind.value_type)}>"
    if checks.is_dictionary(kind):
        return arrow_type(kind.value_type)
    named = {
        "string": checks.is_string(kind) or checks.is_large_string(kind),
        "bool": checks.is_boolean(kind),
        "int": checks.is_integer(kind),
        "float": checks.is_floating(kind) or checks.is_decimal(kind),
        "binary": checks.is_binary(kind) or checks.is_large_binary(kind) or checks.is_fixed_size_binary(kind),
        "date": checks.is_temporal(kind),
        NOTHING: checks.is_null(kind),
    }
    return next((name for name, holds in named.items() if holds), str(kind))


def seen_types(source: Source, folder: Path) -> dict[str, str]:
    """Types by column of the first rows of a pinned source; empty where it has none."""
    steps = islice(source.rows(folder, 0, 1, None), SEEN_ROWS)
    return row_types(step.row for step in steps if isinstance(step.row, Row))


def row_types(rows: Iterable[Row]) -> dict[str, str]:
    """Types by column of some rows: of each column the first value that says anything."""
    found: dict[str, str] = {}
    for row in rows:
        values = {**{name: value_type(value) for name, value in row.fields.items()}, **_media(row.blobs)}
        for name, kind in values.items():
            if not name.endswith(".path") and found.get(name, NOTHING) in (NOTHING, f"list<{NOTHING}>"):
                found[name] = kind
    return found


def value_type(value: Any) -> str:
    """The type of a plain value."""
    if isinstance(value, list):
        kinds = [value_type(entry) for entry in value]
        return f"list<{next((kind for kind in kinds if kind != NOTHING), NOTHING)}>"
    if isinstance(value, Mapping):
        return f"struct<{','.join(value)}>"
    return PLAIN.get(type(value), "date")


def _media(blobs: Mapping[str, bytes]) -> dict[str, str]:
    """Columns of blobs; several in one are `column.0`, `column.1`, …"""
    found = {}
    for name in blobs:
        column, dot, number = name.rpartition(".")
        several = bool(dot) and number.isdecimal()
        found[column if several else name] = f"list<{MEDIUM}>" if several else MEDIUM
    return found
