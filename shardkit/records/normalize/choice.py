"""Normaliser of multiple choice, with or without pictures; a question without options is an open one.

Here: options and answers in the forms that benchmarks have them.
Elsewhere: pictures that texts refer to (pictures.py), questions about media with a free answer (media.py).
"""

from __future__ import annotations

import ast
import contextlib
import re
from typing import Any, NamedTuple

from shardkit.errors import Refused
from shardkit.records.marks import escape_marks
from shardkit.records.normalize.columns import Columns, Content, checked_text, kind_of
from shardkit.records.normalize.dialogue import turn_pair
from shardkit.records.normalize.media import answer_text, unanswered
from shardkit.records.normalize.pictures import all_pictures, with_pictures

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
HIDDEN: tuple[Any, ...] = (None, "", "?", "-", -1, [])
"""Answers of test splits whose answers are not published."""

MAX_REPR = 20_000
"""Characters of a list written as text that are read: Python's parser is not made for hostile text."""

_LETTER = re.compile(r"\(?([A-Za-z])[.):]?")


class Choices(NamedTuple):
    """The options' texts as they came, and their labels where the row has its own (`A`, `1`)."""

    options: tuple[str, ...]
    labels: tuple[str, ...] = ()


def from_multiple_choice(row: Columns) -> Content:
    """Columns `question`, `options`, `answer`, and pictures in `image` or `image_1` to `image_7`.

    Options are a list, a list written as text, or {text, label}. The answer is a number from 0, a letter, or the text
    of an option, as the option `answer_is` says (`auto`: what it looks like). The user's turn ends with `instruction`;
    the assistant gives the `letter`, the `text` or `both`, as `form` says. Without `options` the question is open.
    Without `question` it stands in the picture (MMMU-Pro's vision), and so do its options. `unanswered` says what
    becomes of a row whose answer is hidden: `refuse`, or `unlabelled` with its media alone.
    """
    question, choices = row.optional("question"), choices_of(row)
    if not question:
        row.required_media("image")
    answer = _open_answer(row) if not choices.options else _chosen(row, choices)
    if answer is None:
        return unanswered(row, all_pictures(row))
    asked, media = with_pictures(_asked(question, choices.options, row), row)
    return Content(turn_pair(asked, answer), media=media)


def choices_of(row: Columns) -> Choices:
    """The options in a row's column; empty where it has none. Raises Refused (`missing-field`, `schema`)."""
    value = row.value("options")
    labels: Any = ()
    if isinstance(value, dict):
        labels, value = value.get("label") or (), value.get("text")
    if isinstance(value, str):
        value = written_list(value, row.column("options")) if value.strip() else []
    if value is None:
        return Choices(())
    if not isinstance(value, list):
        raise Refused("missing-field", f"{row.column('options')}: found {kind_of(value)}, wanted a list")
    if len(value) > len(LETTERS):
        raise Refused("schema", f"{len(value)} options, there are {len(LETTERS)} letters")
    options = tuple(_option(entry, row.column("options")) for entry in value)
    return Choices(options, tuple(str(label) for label in labels) if len(labels) == len(options) else ())


def written_list(text: str, name: str) -> list[Any]:
    """The list in a text such as `['a', "b's"]`, read as data and never evaluated; raises Refused (`schema`)."""
    try:
        value = ast.literal_eval(text.strip()) if len(text) <= MAX_REPR else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise Refused("schema", f"{name}: {len(text)} characters that are no list")
    return value


def _asked(question: str, options: tuple[str, ...], row: Columns) -> str:
    parts = [question] if question else []
    if question and options:
        parts.append("\n".join(f"{LETTERS[at]}. {escape_marks(option)}" for at, option in enumerate(options)))
    if options and row.options["instruction"]:
        parts.append(escape_marks(str(row.options["instruction"])))
    return "\n\n".join(parts)


def _chosen(row: Columns, choices: Choices) -> str | None:
    """What the assistant says; None where the answer is hidden."""
    value = row.value("answer")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, bool) and value in HIDDEN:
        return None
    found = _readings(value, choices)
    wanted = str(row.options["answer_is"])
    numbers = set(found.values()) if wanted == "auto" else {found[wanted]} if wanted in found else set()
    if len(numbers) != 1:
        raise Refused("schema", f"{row.column('answer')}: it can be {len(numbers)} of {len(choices.options)} options")
    [at] = numbers
    texts = {"letter": LETTERS[at], "text": choices.options[at], "both": f"{LETTERS[at]}. {choices.options[at]}"}
    return escape_marks(texts[str(row.options["form"])])


def _readings(value: Any, choices: Choices) -> dict[str, int]:
    """The option that an answer stands for if it is an index, a letter or a text; those that it can be."""
    found: dict[str, int] = {}
    if isinstance(value, int) and not isinstance(value, bool):
        found["index"] = value
    if isinstance(value, str):
        text = value.strip()
        letter = _LETTER.fullmatch(text)
        if text in choices.labels:
            found["letter"] = choices.labels.index(text)
        elif letter:
            found["letter"] = LETTERS.index(letter[1].upper())
        if text in choices.options:
            found["text"] = choices.options.index(text)
        if text.isascii() and text.isdigit() and len(text) < 4:
            found["index"] = int(text)
    if "letter" in found and choices.labels:
        return {"letter": found["letter"]}  # the row's own labels are what answers name
    return {reading: at for reading, at in found.items() if 0 <= at < len(choices.options)}


def _open_answer(row: Columns) -> str | None:
    value = row.value("answer")
    if isinstance(value, str) and value.lstrip().startswith("[") and value.rstrip().endswith("]"):
        with contextlib.suppress(Refused):  # an answer may well be in brackets
            value = written_list(value, row.column("answer"))
    if not isinstance(value, bool) and value in HIDDEN:
        return None
    return answer_text(value, row.column("answer"))


def _option(value: Any, name: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Refused("missing-field", f"{name}: found {kind_of(value)}, wanted texts")
    return checked_text(value, name)
