"""Normalisers of two answers to one question, where the row says which is the better one.

Here: pairs of texts, and messages as TRL has them.
Elsewhere: two transcripts (transcripts.py), answers with ratings or ranks (ratings.py), judged for their safety
(safety.py), in trees (tree.py).
"""

from __future__ import annotations

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.normalize.dialogue import check_roles, drop_blank_system, message_of
from shardkit.records.sample import Message, Preference


def from_preference(row: Columns) -> Content:
    """Columns `prompt` (text, or messages up to what is answered), `chosen` and `rejected`: two answers to it.

    Answers are texts, or messages as TRL has them: the prompt's, if they repeat it, then one of the assistant; the
    prompt may then be absent. A column `label` in place of the two judges `completion`, which then is the only answer;
    the other is empty. The option `swap` is for sources whose `chosen` is the answer that nobody should give.
    """
    messages = _prompt(row)
    label = row.value("label")
    if label is None:
        chosen, rejected = _answer(row, "chosen", messages), _answer(row, "rejected", messages)
        return Content(messages, preferred(*((rejected, chosen) if row.options["swap"] else (chosen, rejected))))
    if not isinstance(label, bool):
        raise Refused("missing-field", f"{row.column('label')}: wanted true or false")
    only = _answer(row, "completion", messages)
    return Content(messages, Preference(chosen=only if label else "", rejected="" if label else only))


def preferred(chosen: str, rejected: str) -> Preference:
    """Two answers; raises Refused (`no-preference`) where they are the same."""
    if chosen == rejected:
        raise Refused("no-preference", "both answers are the same")
    return Preference(chosen=chosen, rejected=rejected)


def user_turn(text: str) -> tuple[Message, ...]:
    """A prompt that is one text."""
    return (Message(role="user", content=text),)


def _prompt(row: Columns) -> tuple[Message, ...]:
    """What is answered: a text as a user turn, or messages in an order that an answer may follow."""
    turns = row.value("prompt")
    if turns is None and isinstance(row.value("chosen"), list):
        turns = row.value("chosen")[:-1]
    if not isinstance(turns, list):
        return user_turn(row.said("prompt"))
    messages = tuple(message_of(turn, at, False) for at, turn in enumerate(drop_blank_system(turns)))
    check_roles((*messages, Message(role="assistant", content="")))
    if all(message.role == "system" for message in messages):
        raise Refused("missing-field", f"{row.column('prompt')}: wanted messages with a user turn")
    return messages


def _answer(row: Columns, role: str, prompt: tuple[Message, ...]) -> str:
    """One answer's text; messages may repeat the prompt before it."""
    turns = row.value(role)
    if not isinstance(turns, list):
        return row.said(role)
    messages = tuple(message_of(turn, at, False) for at, turn in enumerate(drop_blank_system(turns)))
    if len(messages) == len(prompt) + 1 and messages[:-1] == prompt:
        messages = messages[-1:]
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Refused(
            "bad-role", f"{row.column(role)}: wanted one message of the assistant, behind the prompt's or alone"
        )
    return messages[0].content
