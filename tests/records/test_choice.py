"""Multiple choice: answers in the forms that benchmarks have them, and those that could mean two things."""

from __future__ import annotations

from typing import Any

import pytest

from shardkit.errors import Refused
from shardkit.records.normalize import normalize
from shardkit.records.normalize.choice import MAX_REPR, written_list
from shardkit.records.normalize.media import sentence_case
from shardkit.records.row import Row
from shardkit.spec import FilesSource


def answered(options: Any, answer: Any, **settings: str) -> str:
    """What the assistant says, or why the row is refused."""
    spec = FilesSource(name="here", path=".", normalizer="mcq", options=dict(settings))
    row = Row(position="1", fields={"question": "Which?", "options": options, "answer": answer})
    try:
        return normalize(row, spec, "revision").messages[1].content
    except Refused as refused:
        return f"refused: {refused.reason}"


@pytest.mark.parametrize(
    ("options", "answer", "said"),
    [
        (["x", "y", "z"], 2, "C"),
        (["x", "y", "z"], "2", "C"),
        (["x", "y", "z"], "b", "B"),
        (["x", "y", "z"], "(B)", "B"),
        (["x", "y", "z"], "C.", "C"),
        (["x", "y", "z"], " y ", "B"),
        (["x", "y", "z"], ["y"], "B"),
        ([1, 2.5], "2.5", "B"),
        (["2", "3", "1"], "1", "refused: schema"),  # the option "1", or the second one
        (["3", "4", "2"], "2", "C"),  # it is both
        (["B", "A"], "A", "refused: schema"),
        (["A", "B"], "A", "A"),
        (["x", "y"], 2, "refused: schema"),
        (["x", "y"], "D", "refused: schema"),
        (["x", "y"], True, "refused: schema"),
        (["x", "y"], None, "refused: missing-field"),
        (["x", "y"], -1, "refused: missing-field"),
        ({"text": ["x", "y"], "label": ["A", "B"]}, "B", "B"),
        ({"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "2", "B"),
        ({"text": ["x", "y"], "label": ["C", "D"]}, "D", "B"),
        ("['x', 'y']", "B", "B"),
        ("[1, 2]", 1, "B"),
        ("('x', 'y')", "B", "refused: schema"),
        ("[x, y]", "B", "refused: schema"),
        ("['x', open('/etc/passwd').read()]", "A", "refused: schema"),
        (["x"] * 27, 0, "refused: schema"),
        ([], "free text", "free text"),
        (None, "[not a list]", "[not a list]"),
        (None, 7, "7"),
        (None, True, "refused: missing-field"),
    ],
)
def test_answer_is_read_as_it_is_meant(options: Any, answer: Any, said: str) -> None:
    assert answered(options, answer) == said


@pytest.mark.parametrize(("answer_is", "said"), [("index", "C"), ("text", "A"), ("letter", "refused: schema")])
def test_an_option_says_what_an_answer_is(answer_is: str, said: str) -> None:
    assert answered(["2", "3", "4"], "2", answer_is=answer_is) == said


@pytest.mark.parametrize(("form", "said"), [("letter", "B"), ("text", "<|\\image|>"), ("both", "B. <|\\image|>")])
def test_the_assistant_answers_in_the_form_that_is_asked_for(form: str, said: str) -> None:
    assert answered(["x", "<|image|>"], 1, form=form) == said


@pytest.mark.parametrize(
    "text", ["[" * 5000, "-" * 15_000 + "1", "['a'" + ", 'a'" * MAX_REPR + "]", "[1" + "+1" * 5000]
)
def test_hostile_lists_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="schema"):
        written_list(text, "options")


def test_upper_case_becomes_a_sentence_and_other_text_stays() -> None:
    assert sentence_case("'TIS I WHO DID IT") == "'Tis I who did it"
    assert sentence_case("UND I NUN", "de") == "Und i nun"
    spec = FilesSource(name="here", path=".", normalizer="asr", options={"case": "sentence"})
    row = Row(position="1", fields={"text": "Said in NATO."}, blobs={"audio": b"x"})
    assert normalize(row, spec, "revision").messages[1].content == "Said in NATO."
