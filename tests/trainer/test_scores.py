"""Answers compare exactly after normalising, and by edits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.eval.scores import character_error_rate, edits, is_exact, spoken, word_error_rate

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("Blue.", " blue ", True), ("1 2  3", "1 2 3", True), ("ﬁve", "five", True), ("STRASSE", "straße", True),
        ("1 2 3", "1 3 2", False), ("4 #", "4", False), ("4 *", "4 #", False), ("a-b", "ab", False), ("", "x", False),
    ],
)  # fmt: skip
def test_exact_means_the_same_but_for_case_spaces_and_a_full_stop(expected: str, found: str, same: bool) -> None:
    assert is_exact(expected, found) is same


def test_spoken_text_has_no_punctuation_but_keeps_keys() -> None:
    assert spoken("Well, press #4 and *! Don't wait.") == "well press #4 and * dont wait"


@given(WORDS, WORDS)
def test_edits_are_a_distance(first: list[str], second: list[str]) -> None:
    number = edits(first, second)
    assert number == edits(second, first)
    assert (number == 0) is (first == second)
    assert abs(len(first) - len(second)) <= number <= max(len(first), len(second))
    assert number == slow(tuple(first), tuple(second))


def slow(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    if not first or not second:
        return len(first) + len(second)
    same = slow(first[1:], second[1:]) + (first[0] != second[0])
    return min(same, 1 + slow(first[1:], second), 1 + slow(first, second[1:]))


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_case_and_space_around_never_matter(text: str) -> None:
    assert is_exact(text, f" {text.upper()}\n")


def test_error_rates_are_over_all_pairs() -> None:
    pairs = [("one two three", "one too three"), ("four", "four five")]
    assert word_error_rate(pairs) == pytest.approx(2 / 4)
    assert character_error_rate(pairs) == pytest.approx((1 + 5) / (13 + 4))
    assert word_error_rate([]) is None and character_error_rate([("...", "x")]) is None
