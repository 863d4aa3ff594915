"""Benchmarks by name: which entries of the catalog a word stands for, and what is a place and no name.

Here: names replaced by the sources of their entries.
Elsewhere: the sources (resolve.py), opening them and reading their texts (the room curate).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shardkit.errors import SpecError
from shardkit.plain import convert_spec
from shardkit.spec.catalog.choose import Choice, choose
from shardkit.spec.catalog.folder import UnknownEntry, find_entry, load_catalog
from shardkit.spec.catalog.resolve import entry_source, resolve_sources
from shardkit.spec.curation import BenchmarkSource

ALL = "benchmarks"
"""The word for every benchmark of the catalog that is available."""

LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json")
PLACES = (*LINES, ".tar", ".tar.zst")
"""How the names of files end that are benchmarks."""


def find_benchmarks(
    names: Sequence[str | BenchmarkSource], folders: tuple[Path, ...]
) -> tuple[str | BenchmarkSource, ...]:
    """Names of entries as their sources; places and sources as they are. An entry stands once.

    A name is NAME or NAME:VARIANT of an entry, an entry's id, or `benchmarks`. A folder that is called as an entry is
    not in its way: write ./NAME for the folder. Raises SpecError: neither a place nor an entry, or one that is gone.
    """
    found: list[str | BenchmarkSource] = []
    for one in (one for name in names for one in _find(name, folders)):
        if isinstance(one, str) or one not in found:  # `benchmarks` and one of them by its name
            found.append(one)
    return tuple(found)


def resolve_benchmarks(raw: dict[str, Any], folders: tuple[Path, ...], where: str) -> dict[str, Any]:
    """A raw build spec whose `dedup.against` has sources in place of names. Raises SpecError."""
    dedup = raw.get("dedup")
    against = dedup.get("against") if isinstance(dedup, dict) else None
    if not isinstance(dedup, dict) or not isinstance(against, list):
        return raw
    concrete = [one for name in against for one in _resolve(name, folders, f"{where}: dedup.against")]
    return {**raw, "dedup": {**dedup, "against": concrete}}


def _resolve(given: Any, folders: tuple[Path, ...], where: str) -> Iterator[Any]:
    if isinstance(given, str):
        yield from _find(given, folders)
    elif isinstance(given, dict) and "source" in given:
        yield {**given, "source": resolve_sources({"sources": [given["source"]]}, folders, where)["sources"][0]}
    else:
        yield given


def _find(name: str | BenchmarkSource, folders: tuple[Path, ...]) -> Iterator[str | BenchmarkSource]:
    if not isinstance(name, str) or _is_place(name):
        yield name
        return
    if name == ALL:
        entries = choose(load_catalog(folders), Choice(group="benchmark", state="available"))
        yield from (_named(entry.name, folders) for entry in entries)
        return
    try:
        yield _named(name, folders)
    except UnknownEntry as error:
        if not Path(name).exists():
            raise SpecError(
                f"no benchmark {name}: no such file, folder or dataset, and {error}; `{ALL}` takes all of the catalog's"
            ) from None
        yield name


def _is_place(name: str) -> bool:
    path = Path(name)
    plain = "://" in name or name.startswith((".", "/")) or name.endswith(PLACES)
    return plain or path.is_file() or ("/" in name and path.exists())


def _named(name: str, folders: tuple[Path, ...]) -> BenchmarkSource:
    wanted, _, variant = name.partition(":")
    entry = find_entry(wanted, folders)
    called = f"{entry.name}:{variant}" if variant else entry.name
    raw = {"name": called, "entry": called, "source": entry_source(entry, variant)}
    return convert_spec(raw, BenchmarkSource, f"benchmark {name}")
