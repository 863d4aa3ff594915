"""Normalisers of conversations: messages, ShareGPT, turns, Alpaca.

Here: one function each, from a row's columns to messages.
Elsewhere: what they share (dialogue.py), trees of messages (tree.py), the table (table.py).
"""

from __future__ import annotations

from typing import Any

from shardkit.errors import Refused
from shardkit.records.normalize.calls import has_calls, spoken_calls
from shardkit.records.normalize.columns import Columns, Content, escaped, is_plain
from shardkit.records.normalize.dialogue import (
    ALL_MEDIA,
    check_roles,
    drop_blank_system,
    may_have_marks,
    message_of,
    place_marks,
    place_placeholders,
    turn_pair,
    with_system,
)
from shardkit.records.row import RawMedium
from shardkit.records.sample import Message, Role

SPEAKERS: dict[str, Role] = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "bot", "chatgpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response", "function", "ipython"), "tool"),
    "system": "system",
}
"""Who speaks in conversations of the kind of ShareGPT, and the role that this is."""

ASKED = ("input", "question", "user", "prompt")
ANSWERED = ("output", "answer", "assistant", "response")


def from_messages(row: Columns) -> Content:
    """Column `messages`: a list of {role, content}, content text or parts. Roles as in FOLLOWS.

    Media come first where nothing marks them.

    A first message of the system without text is left out. Calls of tools beside the assistant's text go into it.
    """
    turns = row.value("messages")
    if not isinstance(turns, list) or not turns:
        raise Refused("missing-field", f"{row.column('messages')}: wanted a list of messages")
    marks = bool(row.options["marks"])
    turns = drop_blank_system(turns)
    if has_calls(turns):
        turns = spoken_calls(turns)
    messages = tuple([message_of(turn, at, marks) for at, turn in enumerate(turns)])
    check_roles(messages)
    if not row.row.blobs and not may_have_marks(messages):
        return Content(messages)
    media = row.media(*ALL_MEDIA)
    return Content(place_marks(messages, media), media=media)


def from_sharegpt(row: Columns) -> Content:
    """Column `conversations`: a list of {from, value}, speakers as in SPEAKERS; other keys (`weight`) are dropped.

    A system's turn without text is left out; the column `system` is one, where the conversation has none. Media take
    the places of `<image>`, `<video>`, `<audio>`; with the option `needs_media` a row without any is refused.
    """
    turns = drop_blank_system(row.list_of("conversations"), "from", "value")
    messages = with_system(tuple([_spoken(turn, at) for at, turn in enumerate(turns)]), row)
    check_roles(messages)
    media = _media(row)
    return Content(place_placeholders(messages, media), media=media)


def from_turns(row: Columns) -> Content:
    """Column `turns`: a list of what was asked and answered, as {input, output}, {question, answer} or [q, a].

    Media stand in the first user turn; with the option `needs_media` a row without any is refused. Where `columns`
    maps `caption`, that text describes them and is asked for first, as the option `instruction` says.
    """
    media = _media(row)
    caption = row.optional("caption") if "caption" in row.spec.columns else ""
    messages = list(turn_pair(str(row.options["instruction"]), caption)) if caption else []
    turns = row.value("turns") if caption and not row.value("turns") else row.list_of("turns")
    for at, turn in enumerate(turns or ()):
        asked, answered = _exchange(turn, at)
        messages += turn_pair(escaped(asked, f"turn {at}"), escaped(answered, f"answer {at}"))
    return Content(place_placeholders(tuple(messages), media), media=media)


def from_alpaca(row: Columns) -> Content:
    """Columns `instruction`, `input` (may be empty) and `output`: the user's are the first two, a blank line between.

    With the option `instruction_as_system` the instruction is the system's (it may be empty) and the input the user's.
    """
    answer = row.said("output")
    if row.options["instruction_as_system"]:
        system = row.optional("instruction")
        pair = turn_pair(row.said("input"), answer)
        return Content((Message(role="system", content=system), *pair) if system else pair)
    instruction, given = row.said("instruction"), row.optional("input")
    return Content(with_system(turn_pair(f"{instruction}\n\n{given}" if given else instruction, answer), row))


def _media(row: Columns) -> tuple[RawMedium, ...]:
    return row.required_media(*ALL_MEDIA) if row.options["needs_media"] else row.media(*ALL_MEDIA)


def _spoken(turn: Any, at: int) -> Message:
    if not isinstance(turn, dict):
        raise Refused("missing-field", f"turn {at} is not an object")
    speaker = turn.get("from")
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise Refused("bad-role", f"turn {at} has an unknown speaker")
    said = turn.get("value")
    if not isinstance(said, str) or not is_plain(said):
        said = escaped(said, f"turn {at}")
    return Message(role=role, content=said)


def _exchange(turn: Any, at: int) -> tuple[Any, Any]:
    if isinstance(turn, list) and len(turn) == 2:
        return turn[0], turn[1]
    if isinstance(turn, dict):
        asked = next((turn[name] for name in ASKED if name in turn), None)
        return asked, next((turn[name] for name in ANSWERED if name in turn), None)
    raise Refused("missing-field", f"turn {at} is neither an object nor a pair")
