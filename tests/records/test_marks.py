"""Marks of media in text: escaping is reversible, splitting finds exactly the real ones."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from shardkit.records.marks import MARKS, Mark, count_marks, escape_marks, split_marks, unescape_marks

near_marks = st.lists(
    st.sampled_from(["<|", "|>", "\\", "image", "audio", "video", "<", "|", ">", "x", *MARKS.values()]), max_size=12
).map("".join)
texts = st.one_of(near_marks, st.text(max_size=30))


@given(texts)
def test_escaping_is_reversible(text: str) -> None:
    assert unescape_marks(escape_marks(text)) == text


@given(texts)
def test_escaped_text_holds_no_mark(text: str) -> None:
    assert not any(count_marks(escape_marks(text)).values())
    assert not any(isinstance(part, Mark) for part in split_marks(escape_marks(text)))


@given(texts, texts)
def test_escaping_never_makes_two_texts_one(left: str, right: str) -> None:
    assert (escape_marks(left) == escape_marks(right)) == (left == right)


@given(st.lists(st.one_of(texts, st.sampled_from(list(Mark))), max_size=8))
def test_splitting_gives_back_text_and_marks_in_order(parts: list[str | Mark]) -> None:
    parts = [part for kind, run in groupby(parts, type) for part in (run if kind is Mark else ["".join(run)])]
    content = "".join(MARKS[part.value] if isinstance(part, Mark) else escape_marks(part) for part in parts)
    split = split_marks(content)
    assert [part for part in split if isinstance(part, Mark)] == [part for part in parts if isinstance(part, Mark)]
    text = "".join(unescape_marks(part) for part in split if not isinstance(part, Mark))
    assert text == "".join(part for part in parts if not isinstance(part, Mark))


def test_escape_adds_one_backslash() -> None:
    assert escape_marks("a <|image|> b") == "a <|\\image|> b"
    assert escape_marks("<|\\image|>") == "<|\\\\image|>"
    assert escape_marks("<|other|> <| image|>") == "<|other|> <| image|>"


def test_text_that_names_a_modality_is_no_mark() -> None:
    [text, mark] = split_marks("image<|image|>")
    assert not isinstance(text, Mark)
    assert isinstance(mark, Mark)
