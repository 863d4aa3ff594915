"""Normalisers of text: messages, question and answer, preference, prompt and completion, plain text, repository file.

Here: one function each, from a row's columns to messages.
Elsewhere: media with an answer (media.py), the table (table.py).
"""

from __future__ import annotations

from typing import Any, cast

from shardkit.errors import Refused
from shardkit.records.marks import MARKS, OPENING, count_marks, escape_marks
from shardkit.records.normalize.columns import Columns, Content, checked_text
from shardkit.records.row import Modality, RawMedium
from shardkit.records.sample import Message, Preference, Role

FOLLOWS: dict[str, tuple[str, ...]] = {
    "": ("system", "user", "assistant"),
    "system": ("user", "assistant"),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""Which roles may come after which; "" is the beginning. The last message is the assistant's."""


def from_messages(row: Columns) -> Content:
    """Column `messages`: a list of {role, content}, content text. Roles as in FOLLOWS; media come first if unmarked."""
    turns = row.value("messages")
    if not isinstance(turns, list) or not turns:
        raise Refused("missing-field", f"{row.column('messages')}: wanted a list of messages")
    messages = tuple([_message(turn, at, row) for at, turn in enumerate(turns)])
    _check_roles(messages)
    media = row.media("image", "audio", "video")
    return Content(messages=place_marks(messages, media), media=media)


def from_question_answer(row: Columns) -> Content:
    """Columns `question` and `answer`; media of the row stand at the start of the question unless it marks them."""
    media = row.media("image", "audio", "video")
    messages = turn_pair(source_text(row, "question"), source_text(row, "answer"))
    return Content(messages=place_marks(messages, media), media=media)


def from_prompt_completion(row: Columns) -> Content:
    """Columns `prompt` and `completion`: a user turn and the assistant's, both as they stand."""
    return Content(messages=turn_pair(source_text(row, "prompt"), source_text(row, "completion")))


def from_preference(row: Columns) -> Content:
    """Columns `prompt` (text, or messages up to what is answered), `chosen` and `rejected`: two answers to it.

    Answers are texts, or messages as TRL has them: the prompt's, if they repeat it, then one of the assistant. A
    column `label` in place of the two judges `completion`, which then is the only answer; the other is empty.
    """
    messages = _prompt(row)
    if row.value("label") is None:
        chosen, rejected = _answer(row, "chosen", messages), _answer(row, "rejected", messages)
        return Content(messages=messages, preference=Preference(chosen=chosen, rejected=rejected))
    label = row.value("label")
    if not isinstance(label, bool):
        raise Refused("missing-field", f"{row.column('label')}: wanted true or false")
    only = _answer(row, "completion", messages)
    return Content(
        messages=messages, preference=Preference(chosen=only if label else "", rejected="" if label else only)
    )


def from_plain_text(row: Columns) -> Content:
    """Column `text`: text for continued pretraining, as one assistant message without a user turn.

    No question is invented, and a loss on assistant tokens alone still learns the text.
    """
    return Content(messages=(Message(role="assistant", content=source_text(row, "text")),))


def from_repository_file(row: Columns) -> Content:
    """Columns `text` and `path`: a file's text as one assistant message, as plain text; its path in provenance."""
    path = row.text("path")
    licence = row.value("licence_file")
    provenance = {"path": path} | ({"licence_file": licence} if isinstance(licence, str) and licence else {})
    return Content(messages=(Message(role="assistant", content=source_text(row, "text")),), provenance=provenance)


def source_text(row: Columns, role: str) -> str:
    """A role's text with its marks escaped, or left as marks where the option `marks` says that they are meant."""
    text = row.text(role)
    return text if row.options.get("marks") else escape_marks(text)


def turn_pair(user: str, assistant: str) -> tuple[Message, Message]:
    """A user turn and the assistant's answer to it."""
    return Message(role="user", content=user), Message(role="assistant", content=assistant)


def place_marks(messages: tuple[Message, ...], media: tuple[RawMedium, ...]) -> tuple[Message, ...]:
    """Messages in which every medium has its mark: those of a modality without any go before the first user turn.

    Raises Refused (`schema`) where the text marks another number of media than the row has.
    """
    if not media and OPENING not in "".join([message.content for message in messages]):
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


def _prompt(row: Columns) -> tuple[Message, ...]:
    """What is answered: a text as a user turn, or messages in an order that an answer may follow."""
    turns = row.value("prompt")
    if not isinstance(turns, list):
        return (Message(role="user", content=source_text(row, "prompt")),)
    messages = tuple(_message(turn, at, row) for at, turn in enumerate(turns))
    _check_roles((*messages, Message(role="assistant", content="")))
    if all(message.role == "system" for message in messages):
        raise Refused("missing-field", f"{row.column('prompt')}: wanted messages with a user turn")
    return messages


def _answer(row: Columns, role: str, prompt: tuple[Message, ...]) -> str:
    """One answer's text; messages may repeat the prompt before it."""
    turns = row.value(role)
    if not isinstance(turns, list):
        return source_text(row, role)
    messages = tuple(_message(turn, at, row) for at, turn in enumerate(turns))
    if len(messages) == len(prompt) + 1 and messages[:-1] == prompt:
        messages = messages[-1:]
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Refused(
            "bad-role", f"{row.column(role)}: wanted one message of the assistant, behind the prompt's or alone"
        )
    return messages[0].content


def _message(turn: Any, at: int, row: Columns) -> Message:
    if not isinstance(turn, dict):
        raise Refused("missing-field", f"message {at} is not an object")
    role, content = turn.get("role"), turn.get("content")
    if len(turn) != 2 or role is None or content is None:
        _refuse_other_fields(turn, at)
    if not isinstance(role, str) or role not in FOLLOWS or not role:
        raise Refused("bad-role", f"message {at} has an unknown role")
    if not isinstance(content, str):
        raise Refused("missing-field", f"message {at} has no text as its content")
    if not content or content.isspace():
        raise Refused("empty-text", f"message {at}")
    if "\0" in content or not content.isascii():
        checked_text(content, f"message {at}")
    return Message(role=cast(Role, role), content=content if row.options.get("marks") else escape_marks(content))


def _refuse_other_fields(turn: dict[str, Any], at: int) -> None:
    extra = sum(value not in (None, "", [], {}) for name, value in turn.items() if name not in ("role", "content"))
    if extra:
        raise Refused("schema", f"message {at} has {extra} fields other than role and content")


def _check_roles(messages: tuple[Message, ...]) -> None:
    before = ""
    for at, message in enumerate(messages):
        if message.role not in FOLLOWS[before]:
            raise Refused("bad-role", f"message {at} is of {message.role}, after {before or 'the beginning'}")
        before = message.role
    if before != "assistant":
        raise Refused("bad-role", f"the last message is of {before}, wanted assistant")
