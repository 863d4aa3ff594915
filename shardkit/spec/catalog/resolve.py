"""From the catalog to sources of a build spec.

Here: `kind: catalog` replaced by the source of its entry, field by field as the user wishes it otherwise.
Elsewhere: finding entries (folder.py), reading the spec around them (spec.loading).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.plain import convert_spec
from shardkit.spec.catalog.entry import Entry
from shardkit.spec.catalog.folder import find_entry
from shardkit.spec.kinds import AnySource
from shardkit.spec.source import SourceSpec

KIND = "catalog"
MERGED = ("options", "media")
"""Mappings of which a user may replace single fields; of the others (`columns`) all or none."""

IDENTIFIERS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "hub": lambda entry: {"dataset": entry.id, "revision": entry.revision},
    "git": lambda entry: {"url": f"https://github.com/{entry.id}", "revision": entry.revision},
    "kaggle": lambda entry: {"dataset": entry.kaggle},
}
"""Of each kind of source: where an entry lies, said once in the entry and not again in its `source`."""


class CatalogReference(msgspec.Struct, frozen=True, kw_only=True):
    """A source of a build spec that stands in the catalog; all other fields replace those of the entry's source.

    `entry` is a name in the catalog, `variant` one of the entry's other readings.
    """

    entry: str
    variant: str = ""


def name_references(raw: Any) -> None:
    """Give each catalog source of a raw spec without a name that of its entry, so that `--set` finds it by name."""
    sources = raw.get("sources") if isinstance(raw, dict) else None
    for source in sources if isinstance(sources, list) else ():
        if is_reference(source) and "name" not in source and isinstance(source.get("entry"), str):
            variant = source.get("variant")
            source["name"] = source["entry"] + (f"-{variant}" if isinstance(variant, str) and variant else "")


def resolve_sources(raw: dict[str, Any], folders: tuple[Path, ...], where: str) -> dict[str, Any]:
    """A raw spec with every catalog source replaced by a concrete one, also in fallbacks. Raises SpecError."""
    sources = raw.get("sources")
    if not isinstance(sources, list):
        return raw
    found = [_resolve(source, folders, f"{where}: source {at}") for at, source in enumerate(sources, 1)]
    return {**raw, "sources": found}


def is_reference(source: Any) -> bool:
    """Whether a raw source stands in the catalog."""
    return isinstance(source, dict) and source.get("kind") == KIND


def entry_source(entry: Entry, variant: str = "", overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The raw source of an entry or of one of its variants, with a user's fields over it.

    A variant of another kind (a copy at another host) falls back to the entry's own source. One whose split the entry
    holds out is `held_out`, unless the user says otherwise.
    Raises SpecError: the entry cannot be read (with its reason and replacement), or has no such variant.
    """
    if entry.source is None:
        raise SpecError(unreadable(entry))
    if variant and variant not in entry.variants:
        known = ", ".join(entry.variants) or "none"
        raise SpecError(f"the entry {entry.name} has no variant {variant!r}; there are: {known}")
    varied = entry.variants[variant] if variant else {}
    source = _over(entry.source, varied)
    if varied.get("kind", entry.kind) != entry.kind:
        source = {"fallback": entry_source(entry), **source}
    source = {
        "name": f"{entry.name}-{variant}" if variant else entry.name,
        "licence": entry.licence,
        **({} if entry.sample_size is None else {"limit": entry.sample_size}),
        **({} if entry.budget_bytes is None else {"budget_bytes": entry.budget_bytes}),
        **({"content_warning": entry.content_warning} if entry.content_warning else {}),
        **{name: value for name, value in IDENTIFIERS.get(source["kind"], _nowhere)(entry).items() if value},
        **source,
    }
    source = _over(source, overrides or {})
    return source if "held_out" in source or not _is_held_out(entry, source) else {**source, "held_out": True}


def _is_held_out(entry: Entry, source: dict[str, Any]) -> bool:
    """Whether what a source reads is for judging models; a copy at another host is of the entry's own split."""
    return source.get("split", (entry.source or {}).get("split")) in entry.held_out


def unreadable(entry: Entry) -> str:
    """Why an entry cannot be built, and what to take in its place."""
    instead = f"; take {entry.replacement} in its place" if entry.replacement else ""
    return f"{entry.name} ({entry.title}) is {entry.state}: {entry.reason.rstrip('.')}{instead}"


def check_sources(entry: Entry, where: str) -> dict[str, AnySource]:
    """The sources of an entry and of its variants ("" is the entry's own) as structs. Raises SpecError naming each."""
    if entry.source is None:
        return {}
    return {
        variant: _convert(entry_source(entry, variant), f"{where}{f', variant {variant}' if variant else ''}")
        for variant in ("", *entry.variants)
    }


def _convert(source: dict[str, Any], where: str) -> AnySource:
    return convert_spec(source, AnySource, where)  # type: ignore[arg-type]


def _resolve(source: Any, folders: tuple[Path, ...], where: str) -> Any:
    if not isinstance(source, dict):
        return source
    if is_reference(source):
        own = {name: value for name, value in source.items() if name in CatalogReference.__struct_fields__}
        fields = {name: value for name, value in source.items() if name not in ("kind", *own)}
        reference = convert_spec(own, CatalogReference, where)
        source = entry_source(find_entry(reference.entry, folders), reference.variant, fields)
    if isinstance(source.get("fallback"), dict):
        source = {**source, "fallback": _resolve(source["fallback"], folders, f"{where}, fallback")}
    return source


def _over(source: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields over those of a source. Another normaliser reads other columns and knows other options."""
    old = dict(source)
    if "normalizer" in fields:
        old = {name: value for name, value in old.items() if name not in ("columns", "options")}
    if "kind" in fields and fields["kind"] != source["kind"]:
        old = {name: value for name, value in old.items() if name in SourceSpec.__struct_fields__}
    merged = {name: merge(old[name], fields[name]) for name in MERGED if name in old and name in fields}
    return {**old, **fields, **merged}


def merge(old: Any, new: Any) -> Any:
    """Nested mappings, the new one's values over the old one's."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: merge(old[name], value) if name in old else value for name, value in new.items()}}


def _nowhere(entry: Entry) -> dict[str, Any]:
    return {}
