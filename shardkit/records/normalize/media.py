"""Normalisers of media: transcript, screenshot to code, caption, and media without an answer.

Here: one function each, from a row's columns to messages with marks.
Elsewhere: text alone (text.py), decoding and checking the bytes (the room media).
"""

from __future__ import annotations

from shardkit.records.marks import MARKS, escape_marks
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.normalize.text import source_text, turn_pair
from shardkit.records.row import RawMedium

CAPTION_REQUESTS = {"image": "Describe this image.", "video": "Describe this video."}


def from_transcript(row: Columns) -> Content:
    """Speech recognition: `audio` and its true transcript `text`; the option `instruction` may follow the mark."""
    media = row.required_media("audio")
    return _asked(media, str(row.options["instruction"]), source_text(row, "text"))


def from_screenshot_to_code(row: Columns) -> Content:
    """A picture `image` of a page and the `code` that draws it; the option `instruction` is what the user asks."""
    media = row.required_media("image")
    return _asked(media, str(row.options["instruction"]), source_text(row, "code"))


def from_caption(row: Columns) -> Content:
    """An `image` or a `video` and its true description `text`; the user asks as the option `instruction` says."""
    media = row.required_media("image", "video")
    instruction = str(row.options["instruction"]) or CAPTION_REQUESTS[media[0].modality]
    return _asked(media, instruction, source_text(row, "text"))


def from_unlabelled(row: Columns) -> Content:
    """Media without a true answer: none is invented, so the messages are empty."""
    return Content(media=row.required_media("image", "audio", "video"))


def _asked(media: tuple[RawMedium, ...], instruction: str, answer: str) -> Content:
    marks = "".join(MARKS[medium.modality] for medium in media)
    return Content(
        messages=turn_pair(f"{marks}\n{escape_marks(instruction)}" if instruction else marks, answer), media=media
    )
