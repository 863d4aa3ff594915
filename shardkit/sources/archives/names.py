"""How a row's text names a member of an archive.

Here: the text of a row, what of a name counts, its mark in a table.
Elsewhere: the tables (table.py), the spec's fields (spec.archives).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash

from shardkit.records.normalize.columns import field
from shardkit.spec import Archive

Mark = tuple[int, int]
"""XXH3-128 of a name, as two numbers of 64 bits: the first sorts a table."""


def named_by(fields: Mapping[str, Any], column: str, archive: Archive) -> str:
    """The name of the member that a row wants for a column; empty where it names none."""
    text = field(fields, archive.key or column)
    return f"{archive.prefix}{text}{archive.suffix}" if isinstance(text, str) and text.strip() else ""


def mark_of(name: str, archive: Archive) -> Mark:
    """What of a name counts, hashed."""
    digest = xxhash.xxh3_128_intdigest(counted(name, archive.match).encode("utf-8", "surrogatepass"))
    return digest >> 64, digest & (1 << 64) - 1


def counted(name: str, match: str) -> str:
    """The whole path without `./` before it, or its last part, or that without its ending."""
    while name.startswith("./"):
        name = name[2:]
    if match == "path":
        return name
    last = name.rpartition("/")[2]
    stem, dot, _ = last.rpartition(".")
    return stem if match == "stem" and dot and stem else last


def is_rubbish(name: str) -> bool:
    """Whether a member is a folder, or what macOS puts beside files."""
    return name.endswith("/") or name.startswith("__MACOSX/") or "/__MACOSX/" in name
