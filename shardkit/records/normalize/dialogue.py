"""What all conversations share: which role may follow which, and where media stand in them.

Here: checks of messages, and marks for the media of a row.
Elsewhere: the shapes that conversations come in (chat.py, preference.py, tree.py), marks in text (records.marks).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

from shardkit.errors import Refused
from shardkit.records.marks import MARKS, count_marks
from shardkit.records.normalize.columns import Columns, escaped, is_plain
from shardkit.records.row import Modality, RawMedium
from shardkit.records.sample import Message, Role

FOLLOWS: dict[str, tuple[str, ...]] = {
    "": ("system", "user", "assistant"),
    "system": ("user", "assistant"),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""Which roles may come after which; "" is the beginning. The last message is the assistant's."""

ALL_MEDIA: tuple[Modality, ...] = ("image", "audio", "video")
STANDS_FOR: dict[str, Modality] = {
    "image": "image", "video": "video", "audio": "audio", "speech": "audio", "sound": "audio",
}  # fmt: skip
"""Placeholders of media in published conversations, as `<image>`."""

_PLACEHOLDER = re.compile(r"<(image|video|audio|speech|sound)>(\n?)")


def turn_pair(user: str, assistant: str) -> tuple[Message, Message]:
    """A user turn and the assistant's answer to it."""
    return Message(role="user", content=user), Message(role="assistant", content=assistant)


def message_of(turn: Any, at: int, marks: bool) -> Message:
    """The message in an object {role, content}; raises Refused where it has more, or is none.

    Content is text, or a list of parts as chat templates take them: {type: text, text}, {type: image}, …
    """
    if not isinstance(turn, dict):
        raise Refused("missing-field", f"message {at} is not an object")
    if len(turn) > 2:
        _refuse_more(turn, at)
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or role not in FOLLOWS or not role:
        raise Refused("bad-role", f"message {at} has an unknown role")
    if isinstance(content, list):
        return Message(role=cast(Role, role), content=_joined(content, at, marks))
    if not isinstance(content, str):
        raise Refused("missing-field", f"message {at} has no text as its content")
    if not is_plain(content):
        content = escaped(content, f"message {at}", marks)
    return Message(role=cast(Role, role), content=content)


def check_roles(messages: Sequence[Message], last: str = "assistant") -> None:
    """Raises Refused (`bad-role`) where roles are not as in FOLLOWS, or the last one is not `last`."""
    before = ""
    for message in messages:
        if message.role not in FOLLOWS[before]:
            at = next(at for at, other in enumerate(messages) if other is message)
            raise Refused("bad-role", f"message {at} is of {message.role}, after {before or 'the beginning'}")
        before = message.role
    if before != last:
        raise Refused("bad-role", f"the last message is of {before or 'nobody'}, wanted {last}")


def drop_blank_system(turns: list[Any], role: str = "role", content: str = "content") -> list[Any]:
    """Turns without a first one of the system that says nothing: null and blank ones are common."""
    first = turns[0] if turns else None
    if not isinstance(first, dict) or first.get(role) != "system":
        return turns
    said = first.get(content)
    return turns[1:] if said is None or (isinstance(said, str) and not said.strip()) else turns


def with_system(messages: tuple[Message, ...], row: Columns) -> tuple[Message, ...]:
    """Messages with the text of the column `system` before them, unless they begin with a system's of their own."""
    if messages and messages[0].role == "system":
        return messages
    system = row.optional("system")
    return (Message(role="system", content=system), *messages) if system else messages


def place_marks(messages: tuple[Message, ...], media: tuple[RawMedium, ...]) -> tuple[Message, ...]:
    """Messages in which every medium has its mark: those of a modality without any go before the first user turn.

    Raises Refused (`schema`) where the text marks another number of media than the row has.
    """
    if not media and not may_have_marks(messages):
        return messages
    absent: list[Modality] = []
    for modality in MARKS:
        marks = sum(count_marks(message.content)[modality] for message in messages)
        there = sum(medium.modality == modality for medium in media)
        if marks and marks != there:
            raise Refused("schema", f"{marks} marks of {modality} in the text, {there} in the row")
        absent += [modality] * (there - marks)
    at = next((at for at, message in enumerate(messages) if message.role == "user"), None)
    if not absent or at is None:
        return messages
    content = "".join(MARKS[modality] for modality in absent) + "\n" + messages[at].content
    return (*messages[:at], Message(role="user", content=content), *messages[at + 1 :])


def may_have_marks(messages: Sequence[Message]) -> bool:
    """Whether it is worth looking for marks."""
    for message in messages:  # noqa: SIM110 - making a generator costs more than the search, for every row
        if "<|" in message.content:
            return True
    return False


def place_placeholders(messages: tuple[Message, ...], media: tuple[RawMedium, ...]) -> tuple[Message, ...]:
    """Marks in place of `<image>`, `<video>`, `<audio>`; without media such text is text.

    An `<image>` stands for the video where there are no images, as in LLaVA-Video. Where the row has another number
    of media than of placeholders, these are taken out, and all media stand before the first user turn.
    """
    if not media:
        return messages
    there = Counter(medium.modality for medium in media)
    wanted = Counter(
        _stands_for(name, there) for message in messages for name, _ in _PLACEHOLDER.findall(message.content)
    )
    if not wanted:
        return place_marks(messages, media)
    exact = all(there[modality] == count for modality, count in wanted.items())

    def mark(match: re.Match[str]) -> str:
        return MARKS[_stands_for(match[1], there)] + match[2] if exact else ""

    marked = tuple(Message(role=message.role, content=_PLACEHOLDER.sub(mark, message.content)) for message in messages)
    if not exact and any(any(count_marks(message.content).values()) for message in marked):
        raise Refused("schema", "without its placeholders the text reads like a mark")
    return place_marks(marked, media)


def _stands_for(name: str, there: Counter[Modality]) -> Modality:
    modality = STANDS_FOR[name]
    return "video" if modality == "image" and not there["image"] and there["video"] else modality


def _joined(parts: list[Any], at: int, marks: bool) -> str:
    """Parts as one text. Texts side by side are one before they are escaped: together they may read like a mark."""
    joined = []
    for kind, run in groupby(parts, lambda part: part.get("type") if isinstance(part, dict) else None):
        if kind == "text":
            texts = [part.get("text") for part in run]
            whole = "".join(text for text in texts if isinstance(text, str))
            joined.append(escaped(whole if None not in texts else None, f"message {at}", marks))
        elif isinstance(kind, str) and kind in STANDS_FOR:
            joined += [MARKS[STANDS_FOR[kind]] for _ in run]
        else:
            raise Refused("missing-field", f"message {at} has a part that is neither text nor a medium")
    if not joined:
        raise Refused("empty-text", f"message {at}")
    return "".join(joined)


def _refuse_more(turn: dict[str, Any], at: int) -> None:
    more = sum(value not in (None, "", [], {}) for name, value in turn.items() if name not in ("role", "content"))
    if more:
        raise Refused("schema", f"message {at} has {more} fields other than role and content")
