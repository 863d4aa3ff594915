"""The normaliser of plain JSON lines with media in files (sources.plain).

Here: messages, preference, media with their types and descriptions.
Elsewhere: reading the files (sources.plain), conversations (dialogue.py).
"""

from __future__ import annotations

from typing import Any

from shardkit.errors import Refused
from shardkit.records.normalize.columns import DEFAULT_TYPES, MEDIA_TYPES, Columns, Content, checked_text, kind_of
from shardkit.records.normalize.dialogue import (
    check_roles,
    drop_blank_system,
    message_of,
    place_marks,
    place_placeholders,
)
from shardkit.records.row import RawMedium
from shardkit.records.sample import Preference

KINDS = {"image_type": "type", "kind": "type", "caption": "description", "text": "description", "lang": "language"}
"""Other names that a medium's fields go by."""


def from_plain(row: Columns) -> Content:
    """Columns `messages`, `preference` ({chosen, rejected}) and `media` as sources.plain gives them.

    With `preference` the messages are what is answered, and may end with the user's. Without messages a row with media
    is unlabelled. Media stand where `<|image|>` or `<image>` stands, else before the first user turn.
    """
    media = tuple(_medium(about, row) for about in _list(row.value("media"), "media"))
    turns = row.value("messages") or []
    if not isinstance(turns, list) or not (turns or media):
        raise Refused("missing-field", "messages: wanted a list of messages, or media")
    marks = _means_marks(turns)
    messages = tuple(message_of(turn, at, marks) for at, turn in enumerate(drop_blank_system(turns)))
    preference = _preference(row.value("preference"))
    if messages:
        check_roles(messages, "user" if preference else "assistant")
    placed = place_marks(messages, media) if marks else place_placeholders(messages, media)
    return Content(messages=placed, preference=preference, media=media)


def _list(value: Any, name: str) -> list[Any]:
    """A list, empty where there is none; raises Refused (`missing-field`)."""
    if value is not None and not isinstance(value, list):
        raise Refused("missing-field", f"{name}: found {kind_of(value)}, wanted a list")
    return value or []


def _medium(about: Any, row: Columns) -> RawMedium:
    fields = about if isinstance(about, dict) else {}
    known = {KINDS.get(name, name): value for name, value in fields.items() if isinstance(value, str)}
    modality, blob = known.get("modality", ""), known.get("blob", "")
    if modality not in MEDIA_TYPES or blob not in row.row.blobs:
        raise Refused("no-media", "media: an entry without a medium; a source of kind plain reads them")
    kind = known.get("type") or row.spec.media_type or DEFAULT_TYPES[modality]
    if kind not in MEDIA_TYPES[modality]:
        raise Refused("schema", f"{modality} type {kind!r} is not one of {', '.join(MEDIA_TYPES[modality])}")
    return RawMedium(
        modality=modality,
        type=kind,
        data=row.row.blobs[blob],
        description=checked_text(known.get("description", ""), "description"),
        language=known.get("language", row.spec.language if modality == "audio" else ""),
    )


def _preference(value: Any) -> Preference | None:
    if value is None:
        return None
    answers = [value.get(name) for name in ("chosen", "rejected")] if isinstance(value, dict) else []
    texts = [checked_text(text, "preference") for text in answers if isinstance(text, str) and text.strip()]
    if len(texts) != 2:
        raise Refused("missing-field", "preference: wanted {chosen, rejected}, both text")
    chosen, rejected = texts
    if chosen == rejected:
        raise Refused("schema", "preference: both answers are the same")
    return Preference(chosen=chosen, rejected=rejected)


def _means_marks(turns: list[Any]) -> bool:
    """Whether `<|image|>` in the text stands for a medium: as in samples of ours, it does where it is used at all."""
    texts = (turn.get("content") for turn in turns if isinstance(turn, dict))
    return any(isinstance(text, str) and "<|" in text for text in texts)
