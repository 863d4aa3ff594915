r"""Conversations written as one text, `\n\nHuman: …\n\nAssistant: …`, as Anthropic and Nectar publish them.

Here: from such a text to messages; one conversation, and two that differ in the last answer.
Elsewhere: ranked answers to such a text (ratings.py), what people say in recordings (media.py).
"""

from __future__ import annotations

import re

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content, escaped
from shardkit.records.normalize.dialogue import check_roles
from shardkit.records.normalize.preference import preferred
from shardkit.records.sample import Message, Role

SPEAKERS: dict[str, Role] = {"Human": "user", "Hum": "user", "Assistant": "assistant"}
"""Who speaks; `Hum` is a slip of the pen that some rows have."""

_SPEAKER = re.compile(r"\n\n(Human|Hum|Assistant):")


def from_transcript(row: Columns) -> Content:
    """Column `transcript`: a whole conversation, that ends with an answer."""
    messages = transcript(row.said("transcript"), row.column("transcript"))
    check_roles(messages)
    return Content(messages)


def from_transcripts(row: Columns) -> Content:
    """Columns `chosen` and `rejected`: two conversations that are equal up to the last answer, as in hh-rlhf.

    Those that differ earlier are refused (`no-preference`): the preference is not between two answers to one question.
    """
    chosen, rejected = (transcript(row.said(role), row.column(role)) for role in ("chosen", "rejected"))
    for messages in (chosen, rejected):
        check_roles(messages)
    if chosen[:-1] != rejected[:-1]:
        raise Refused("no-preference", "the two conversations differ before the last answer")
    if len(chosen) < 2:
        raise Refused("bad-role", "an answer without a question")
    return Content(chosen[:-1], preferred(chosen[-1].content, rejected[-1].content))


def transcript(text: str, name: str) -> tuple[Message, ...]:
    """Messages of a text in which turns begin with who speaks; white space around them is none of theirs.

    A last turn of the assistant without text is left out. Raises Refused (`schema`, `empty-text`).
    """
    start, *parts = _SPEAKER.split("\n\n" + text.lstrip())
    if start.strip():
        raise Refused("schema", f"{name}: it does not begin with Human: or Assistant:")
    turns = [(SPEAKERS[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]
    if turns and turns[-1] == ("assistant", ""):
        turns.pop()
    return tuple(
        Message(role=role, content=escaped(said, f"{name}, turn {at}")) for at, (role, said) in enumerate(turns)
    )
