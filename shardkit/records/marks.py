"""Marks of media in text: `<|image|>`, `<|audio|>`, `<|video|>`.

Here: the marks, escaping text that happens to hold one, and splitting a message at its marks.
Elsewhere: which medium a mark stands for (the order of the sample's modalities; records.normalize checks it).
"""

from __future__ import annotations

import re
from enum import StrEnum

from shardkit.records.row import Modality

IMAGE = "<|image|>"
AUDIO = "<|audio|>"
VIDEO = "<|video|>"
MARKS: dict[Modality, str] = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}

_BARE = re.compile(r"<\|(?=\\*(?:image|audio|video)\|>)")
_ESCAPED = re.compile(r"<\|\\(?=\\*(?:image|audio|video)\|>)")
_MARK = re.compile(r"<\|(image|audio|video)\|>")


class Mark(StrEnum):
    """A mark found by `split_marks`; equal to the name of its modality, told from text by its type."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


def escape_marks(text: str) -> str:
    r"""Text without marks: `<|image|>` becomes `<|\image|>`, and `<|\image|>` becomes `<|\\image|>`.

    `unescape_marks` gives exactly `text` back.
    """
    return _BARE.sub(r"<|\\", text) if "<|" in text else text


def unescape_marks(text: str) -> str:
    """The text that `escape_marks` was given; for parts of a message between its marks."""
    return _ESCAPED.sub("<|", text)


def split_marks(text: str) -> list[str | Mark]:
    """A message's content as text and marks, in order; empty text is left out.

    Text parts are as they stand, still escaped: give them to `unescape_marks`. A mark is a `Mark`
    (`isinstance(part, Mark)`); a text part that reads "image" is only a str.
    """
    parts = _MARK.split(text)
    split = [Mark(part) if at % 2 else part for at, part in enumerate(parts)]
    return [part for part in split if part]


def count_marks(text: str) -> dict[Modality, int]:
    """How many marks of each modality a text holds."""
    return {modality: text.count(mark) for modality, mark in MARKS.items()}
