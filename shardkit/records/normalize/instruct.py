"""Normalisers of one question and its answer: pairs, mathematics, chains of thought.

Here: one function each, from a row's columns to messages.
Elsewhere: programs (code.py), several turns (chat.py), options to choose from (choice.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.normalize.dialogue import ALL_MEDIA, place_marks, turn_pair

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_FINAL = re.compile(r"\s*^#### *(\S.*?)\s*\Z", re.MULTILINE)


def pair(user: str, assistant: str) -> Callable[[Columns], Content]:
    """The normaliser of two columns: the user's turn and the assistant's, both as they stand."""

    def from_pair(row: Columns) -> Content:
        return Content(turn_pair(row.said(user), row.said(assistant)))

    return from_pair


def from_question_answer(row: Columns) -> Content:
    """Columns `question` and `answer`; media of the row stand at the start of the question unless it marks them."""
    media = row.media(*ALL_MEDIA)
    return Content(place_marks(turn_pair(row.said("question"), row.said("answer")), media), media=media)


def from_math(row: Columns) -> Content:
    """Columns `question` and `solution`; the true result, from `final` or behind GSM8K's `####`, is in provenance.

    Rows whose column `is_correct` is not true are refused (`filtered`). Calculator marks `<<48/2=24>>` are left out
    unless the option `calculator` is true. The option `final` says what becomes of the line `#### 24`: `keep` it,
    `drop` it, or make it a `sentence`.
    """
    if row.value("is_correct") not in (None, True):
        raise Refused("filtered", f"{row.column('is_correct')} is not true")
    question, solution = row.said("question"), row.said("solution")
    if not row.options["calculator"]:
        solution = _CALCULATOR.sub("", solution)
    found = _FINAL.search(solution)
    if found and row.options["final"] != "keep":
        solution = solution[: found.start()]
        solution += f"\n\nThe answer is {found[1]}." if row.options["final"] == "sentence" else ""
    if not solution.strip():
        raise Refused("empty-text", row.column("solution"))
    final = row.optional("final") or (found[1] if found else "")
    return Content(turn_pair(question, solution), provenance={"final": final} if final else {})


def from_chain_of_thought(row: Columns) -> Content:
    """Columns `question`, `rationale` and `answer`: the assistant reasons, then answers.

    The option `form` is `plain` (a blank line between the two) or `think` (reasoning within `<think>` tags).
    """
    rationale, answer = row.said("rationale"), row.said("answer")
    thought = f"<think>\n{rationale}\n</think>" if row.options["form"] == "think" else rationale
    return Content(turn_pair(row.said("question"), f"{thought}\n\n{answer}"))
