"""Pictures that a text refers to by number: `<image 1>` and the columns `image_1` to `image_7` of MMMU.

Here: marks in place of the references, and the pictures in that order.
Elsewhere: placeholders without numbers (dialogue.py), decoding (the room media).
"""

from __future__ import annotations

import re

from shardkit.errors import Refused
from shardkit.records.marks import IMAGE
from shardkit.records.normalize.columns import Columns
from shardkit.records.row import RawMedium

NUMBERED = tuple(f"image_{number}" for number in range(1, 8))
"""Roles of the pictures that texts refer to."""

_REFERENCE = re.compile(r"<image (\d{1,2})>")


def all_pictures(row: Columns) -> tuple[RawMedium, ...]:
    """A row's pictures: those of `image`, then the numbered ones."""
    return row.media("image") + tuple(_numbered(row).values())


def with_pictures(text: str, row: Columns) -> tuple[str, tuple[RawMedium, ...]]:
    """A text with marks, and the row's pictures in their order.

    Pictures that it does not refer to stand before it. A second reference to one becomes `[image 1]`. Raises Refused
    (`no-media`) for a reference to a picture that the row does not have.
    """
    numbered, shown = _numbered(row), dict[int, RawMedium]()

    def mark(match: re.Match[str]) -> str:
        number = int(match[1])
        if number in shown:
            return f"[image {number}]"
        if number not in numbered:
            raise Refused("no-media", f"the text refers to image {number}, which the row does not have")
        shown[number] = numbered[number]
        return IMAGE

    marked = _REFERENCE.sub(mark, text) if numbered else text
    others = row.media("image") + tuple(medium for number, medium in numbered.items() if number not in shown)
    before = IMAGE * len(others) + ("\n" if others and marked else "")
    return before + marked, (*others, *shown.values())


def _numbered(row: Columns) -> dict[int, RawMedium]:
    if not row.row.blobs:
        return {}
    found = {number: row.medium("image", role) for number, role in enumerate(NUMBERED, 1)}
    return {number: media[0] for number, media in found.items() if media}
