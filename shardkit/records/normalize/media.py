"""Normalisers of media: speech recognition, screenshot to code, caption, questions, and media without an answer.

Here: one function each, from a row's columns to messages with marks.
Elsewhere: options to choose from (choice.py), conversations about media (chat.py), decoding the bytes (the room media).
"""

from __future__ import annotations

import re
from typing import Any

from shardkit.errors import Refused
from shardkit.records.marks import MARKS, escape_marks
from shardkit.records.normalize.columns import Columns, Content, escaped, kind_of
from shardkit.records.normalize.dialogue import ALL_MEDIA, place_marks, turn_pair
from shardkit.records.row import Modality, RawMedium

CAPTION_REQUESTS: dict[Modality, str] = {
    "image": "Describe this image.",
    "audio": "Describe this sound.",
    "video": "Describe this video.",
}

_LONE_I = re.compile(r"\bi\b")


def from_asr(row: Columns) -> Content:
    """Speech recognition: `audio` and its true transcript `text`; the option `instruction` may follow the mark.

    With the option `case` set to `sentence`, a transcript without any lower-case letter (LibriSpeech) becomes a
    sentence: a capital at its start and for `I`, the rest lower-case; names cannot be told.
    """
    media = row.required_media("audio")
    text = row.said("text")
    if row.options["case"] == "sentence" and text.isupper():
        text = sentence_case(text, row.spec.language)
    return _asked(media, str(row.options["instruction"]), text)


def from_screenshot_to_code(row: Columns) -> Content:
    """A picture `image` of a page and the `code` that draws it; the option `instruction` is what the user asks."""
    media = row.required_media("image")
    return _asked(media, str(row.options["instruction"]), row.said("code"))


def from_caption(row: Columns) -> Content:
    """An `image`, `audio` or `video` and its true description `text`; the user asks as the option `instruction` says.

    Of several descriptions (a list, or rows gathered by their medium) the option `several` takes the `first`, the
    `longest`, or `all`, each on a line of its own.
    """
    media = row.required_media(*ALL_MEDIA)
    instruction = str(row.options["instruction"]) or CAPTION_REQUESTS[media[0].modality]
    captions = [caption for one in row.gathered() for caption in _captions(one)]
    several = str(row.options["several"])
    text = "\n".join(captions) if several == "all" else max(captions, key=len) if several == "longest" else captions[0]
    return _asked(media, instruction, text)


def from_vqa(row: Columns) -> Content:
    """A `question` about a row's media and its `answer`: text, a number, or a list whose first entry counts.

    `unanswered` says what becomes of a row without an answer (test splits): `refuse`, or `unlabelled` with its media
    alone.
    """
    media = row.required_media(*ALL_MEDIA)
    value = row.value("answer")
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return unanswered(row, media)
    answer = answer_text(value, row.column("answer"))
    return Content(place_marks(turn_pair(row.said("question"), answer), media), media=media)


def from_unlabelled(row: Columns) -> Content:
    """Media without a true answer: none is invented, so the messages are empty."""
    return Content(media=row.required_media(*ALL_MEDIA))


def unanswered(row: Columns, media: tuple[RawMedium, ...]) -> Content:
    """A row whose answer is not published: its media alone, or refused (`missing-field`)."""
    if row.options["unanswered"] == "refuse" or not media:
        raise Refused("missing-field", f"{row.column('answer')}: no answer")
    return Content(media=media)


def answer_text(value: Any, name: str) -> str:
    """An answer that is text, a number, or a list whose first entry is one of these; marks are escaped."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool):
        raise Refused("missing-field", f"{name}: found {kind_of(value)}, wanted text or a number")
    return str(value) if isinstance(value, (int, float)) else escaped(value, name)


def sentence_case(text: str, language: str = "") -> str:
    """Upper-case text as a sentence; in English, or where no language is said, a lone `i` is a capital."""
    lower = text.lower()
    if language in ("", "en"):
        lower = _LONE_I.sub("I", lower)
    start = next((at for at, letter in enumerate(lower) if letter.isalpha()), 0)
    return lower[:start] + lower[start : start + 1].upper() + lower[start + 1 :]


def _captions(row: Columns) -> list[str]:
    value = row.value("text")
    if not isinstance(value, list):
        return [row.said("text")]
    return [escaped(text, row.column("text")) for text in row.list_of("text")]


def _asked(media: tuple[RawMedium, ...], instruction: str, answer: str) -> Content:
    marks = "".join(MARKS[medium.modality] for medium in media)
    return Content(turn_pair(f"{marks}\n{escape_marks(instruction)}" if instruction else marks, answer), media=media)
