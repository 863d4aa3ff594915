"""The formats of files that lie elsewhere: each is read by the kind of that name, over another place.

Here: the table, from the spec of a remote kind to the reader of its format.
Elsewhere: the readers (jsonl.py, csv.py, json_list.py, parquet.py, files.py), the places (web_place.py, kaggle.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardkit.errors import SpecError
from shardkit.sources.base import Source
from shardkit.sources.csv import Csv
from shardkit.sources.files import Files
from shardkit.sources.json_list import Json
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.parquet import Parquet
from shardkit.sources.places import Place
from shardkit.spec import (
    CsvSource,
    FilesSource,
    JsonlSource,
    JsonSource,
    Limits,
    ParquetSource,
    RemoteSource,
    SourceSpec,
    format_of,
)

ALL = ("**",)
_Open = Callable[[RemoteSource, dict[str, Any], Place, Limits], Source]


def open_format(spec: RemoteSource, names: tuple[str, ...], place: Place, limits: Limits) -> Source:
    """What reads the files `names` of a place. Raises SpecError where their format is not known, or not one."""
    found = {spec.format or format_of(name) or spec.known_format for name in names}
    if len(found) != 1 or "" in found:
        told = ", ".join(sorted(found - {""})) or "none that is known"
        raise SpecError(
            f"source {spec.name}: the names of its files tell {told}; wanted files of one format: give `format`, or a "
            "source for each"
        )
    common = {name: getattr(spec, name) for name in SourceSpec.__struct_fields__ if name != "fallback"}
    return READERS[found.pop()](spec, {**common, "path": "", "include": ALL}, place, limits)


def _open_csv(spec: RemoteSource, fields: dict[str, Any], place: Place, limits: Limits) -> Source:
    own = {name: getattr(spec, name) for name in ("delimiter", "quote", "header", "names")}
    return Csv(CsvSource(**fields, **own, record_bytes=spec.row_bytes), place)


READERS: dict[str, _Open] = {
    "csv": _open_csv,
    "json": lambda spec, fields, place, limits: Json(
        JsonSource(**fields, key=spec.key, item_bytes=spec.row_bytes), place
    ),
    "jsonl": lambda spec, fields, place, limits: Jsonl(JsonlSource(**fields, line_bytes=spec.row_bytes), place),
    "media": lambda spec, fields, place, limits: Files(FilesSource(**fields, min_bytes=0), limits, place),
    "parquet": lambda spec, fields, place, limits: Parquet(ParquetSource(**fields), place),
}
"""By the name that a spec gives to a format."""
