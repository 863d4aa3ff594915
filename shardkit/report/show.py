"""One sample, found by its key from anywhere, as a person or a machine looks at it.

Here: the text of a sample, writing its members out.
Elsewhere: finding its key (read.find), listing many (read.listing), reading it (read.dataset).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset
from shardkit.read.find import find_place
from shardkit.read.item import Item
from shardkit.read.shapes import record_to_show
from shardkit.records.sample import Sample


def find_sample(dataset: Dataset, key: str) -> Item:
    """The live sample whose key is `key` or the only one that begins so.

    Raises SpecError where no key or several begin so, ShardDamaged, StorageFailed.
    """
    return dataset.fetcher.read(dataset.fetcher.find_one(*find_place(dataset, key, shortened=True)))


def as_json(item: Item) -> dict[str, Any]:
    """A sample as one object: key, where it lies, its record where it has one, its members' names and bytes."""
    return {
        "key": item.key,
        "shard": item.shard,
        "ordinal": item.ordinal,
        "record": msgspec.to_builtins(record_to_show(item)),
        "members": {name: len(data) for name, data in item.members.items()},
    }


def as_text(item: Item) -> str:
    """A sample as lines for a terminal: what it is, its messages, its members."""
    sample = record_to_show(item)
    about = [("key", item.key), ("shard", f"{item.shard}, sample {item.ordinal}"), ("id", sample.id)]
    about += [("source", sample.source), ("category", f"{sample.domain}/{sample.category}")]
    about += [("licence", sample.licence)] if sample.licence else []
    about += [(name, value) for name, value in sorted(sample.provenance.items())]
    width = max(len(name) for name, _ in about)
    lines = [f"{name:<{width}}  {value}" for name, value in about]
    lines += _turns(sample)
    lines += ["", *(f"{len(data):>12,} bytes  {name}" for name, data in item.members.items())]
    return "\n".join(lines)


def write_members(item: Item, folder: Path) -> list[Path]:
    """Write every member as KEY.NAME into a folder (made where it is missing); the paths. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = item.key.replace("/", "_")
    paths = []
    for name, data in item.members.items():
        path = folder / f"{stem}.{name}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def member(item: Item, name: str) -> bytes:
    """One member's bytes. Raises SpecError naming those that there are."""
    if name not in item.members:
        raise SpecError(f"sample {item.key} has no member {name!r}; it has {', '.join(item.members)}")
    return bytes(item.members[name])


def _turns(sample: Sample) -> list[str]:
    lines = []
    for message in sample.messages:
        lines += ["", f"[{message.role}]", message.content]
    if sample.preference is not None:
        lines += ["", "[chosen]", sample.preference.chosen, "", "[rejected]", sample.preference.rejected]
    return lines
