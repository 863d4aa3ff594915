"""The catalog on a terminal: its table, one entry explained, both also as JSON.

Here: texts.
Elsewhere: the entries and choosing among them (spec.catalog), comparing one with its host (sources.check).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from shardkit.spec.catalog.entry import GROUPS, PRIORITIES, Entry
from shardkit.spec.catalog.resolve import entry_source
from shardkit.spec.licences import LICENCE_CLASSES

WIDTH = 110
HEAD = ("name", "group", "media", "rows", "takes", "budget", "licence", "class", "priority", "state")


def catalog_table(entries: Iterable[Entry]) -> str:
    """One line an entry, group by group, in aligned columns; `?` behind what is not verified."""
    ordered = sorted(entries, key=lambda entry: (GROUPS.index(entry.group), entry.name))
    lines = [HEAD, *(_cells(entry) for entry in ordered)]
    if len(lines) == 1:
        return "no entry of the catalog is like that"
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    count = f"{len(lines) - 1} entries" if len(lines) > 2 else "1 entry"
    return "\n".join([*shown, f"{count}; `?`: not verified. `shardkit sources show NAME` explains one."])


def entry_text(entry: Entry) -> str:
    """An entry explained: what it is, how it is read and built, what its licence means, what is not verified."""
    return "\n".join(
        line
        for paragraph in _paragraphs(entry)
        for line in textwrap.wrap(
            paragraph, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    )


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as plain values, with what follows from it: its page, whether it can be built."""
    return {**msgspec.to_builtins(entry), "url": entry.url, "readable": entry.is_readable}


def access(entry: Entry) -> str:
    """How to be let at a gated entry; empty where it is open."""
    if entry.state != "gated":
        return ""
    return (
        f"{entry.name} is gated: {entry.reason.rstrip('.')}. Open {entry.url}, log in and accept; then set "
        "HF_TOKEN to a token of that account (https://huggingface.co/settings/tokens), or run `hf auth login`"
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    doubts = {*entry.unverified, *entry.doubtful}
    rows = _main_rows(entry)
    return (
        entry.name,
        entry.group,
        ",".join(entry.modalities) or "text",
        "" if rows is None else f"{'~' if entry.rounded_rows else ''}{rows:,}{'?' if 'rows' in doubts else ''}",
        ("all" if entry.sample_size is None else f"{entry.sample_size:,}") if entry.is_readable else "",
        _size(entry.budget_bytes),
        entry.licence + ("?" if "licence" in doubts else ""),
        entry.licence_class,
        str(entry.priority),
        ", ".join((entry.state, *_warnings(entry))),
    )


def _warnings(entry: Entry) -> Iterator[str]:
    if entry.content_warning:
        yield "content warning"
    if entry.held_out and (entry.source is None or entry.source.get("split") in entry.held_out):
        yield "held out"


def _main_rows(entry: Entry) -> int | None:
    """Rows of the split that is read by default; of an entry that cannot be read, of its first one."""
    if entry.source is not None:
        return entry.rows_of(str(entry.source.get("config", "")), str(entry.source.get("split", "")))
    return next((rows for splits in entry.configs.values() for rows in splits.values()), None)


def _paragraphs(entry: Entry) -> Iterator[str]:
    yield f"{entry.name}: {entry.title}"
    former = f" (formerly {', '.join(entry.former_ids)})" if entry.former_ids else ""
    yield f"where: {entry.id}{former}{f', {entry.url}' if entry.url else ''}"
    yield f"group: {entry.group}, priority {entry.priority}: {PRIORITIES[entry.priority]}"
    yield f"state: {entry.state}{f'. {entry.reason}' if entry.reason else ''}"
    if entry.replacement:
        yield f"replacement: {entry.replacement}"
    if entry.content_warning:
        yield f"content warning: {entry.content_warning}"
    for config, splits in entry.configs.items():
        counts = (f"{split} {'rows not known' if rows is None else f'{rows:,}'}" for split, rows in splits.items())
        yield f"config {config}: {', '.join(counts)}{' (rounded)' if entry.rounded_rows else ''}"
    if entry.columns:
        yield f"columns: {', '.join(f'{name} {kind}' for name, kind in entry.columns.items())}"
    yield from _other_facts(entry)
    yield from _reading(entry)


def _other_facts(entry: Entry) -> Iterator[str]:
    note = f". {entry.licence_note}" if entry.licence_note else ""
    yield f"licence: {entry.licence}, class {entry.licence_class}: {LICENCE_CLASSES[entry.licence_class]}{note}"
    if entry.modalities:
        media = (f"{modality} ({', '.join(types)})" for modality, types in entry.modalities.items())
        yield f"media: {'; '.join(media)}"
    if entry.main_language:
        yield f"language: {entry.main_language}"
    if entry.kaggle:
        yield f"Kaggle: {entry.kaggle}"
    if entry.held_out:
        yield f"held out, never to be trained on: {', '.join(entry.held_out)}"
    if entry.overlaps:
        yield f"has rows in common with: {', '.join(entry.overlaps)}"
    for note in entry.notes:
        yield f"note: {note}"
    if entry.unverified:
        yield f"believed, not seen in print: {', '.join(entry.unverified)}"
    if entry.doubtful:
        yield f"doubtful, check first: {', '.join(entry.doubtful)}"


def _reading(entry: Entry) -> Iterator[str]:
    if not entry.is_readable:
        return
    fields = entry_source(entry)
    told = (f"{name} {_value(value)}" for name, value in fields.items() if name not in ("name", "licence", "domain"))
    yield f"read as: {', '.join(told)}"
    takes = "all samples" if entry.sample_size is None else f"at most {entry.sample_size:,} samples"
    yield f"full build: {takes}{f', at most {_size(entry.budget_bytes)}' if entry.budget_bytes else ''}"
    for name, variant in entry.variants.items():
        yield f"variant {name}: {', '.join(f'{field} {_value(value)}' for field, value in variant.items())}"
    if access(entry):
        yield f"access: {access(entry)}"
    yield f"build: shardkit build {entry.name} --sample 5"
    if entry.variants:
        yield f"build a variant: shardkit build {entry.name}:{next(iter(entry.variants))} --sample 5"
    yield f"in a build spec: - {{kind: catalog, entry: {entry.name}}}"
    yield f"compare with what is there today: shardkit sources check {entry.name}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def _size(size_bytes: int | None) -> str:
    """Bytes in decimal units, as disks are sold."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e9:g} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:g} MB"
