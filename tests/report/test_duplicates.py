"""Differences between texts as the page of duplicates marks them."""

from __future__ import annotations

from shardkit.report.duplicates import LONGEST_WORDS, mark_changes, mark_shared


def test_changes_are_marked_and_case_and_punctuation_are_none() -> None:
    pieces = mark_changes("The cat sat on a mat.", "the CAT slept on a, mat today")
    assert pieces == (("same", "the CAT"), ("less", "sat"), ("more", "slept"), ("same", "on a, mat"), ("more", "today"))
    assert mark_changes("a b", "a b") == (("same", "a b"),)
    assert mark_changes("", "new") == (("more", "new"),)


def test_long_texts_are_cut_and_what_was_cut_is_no_difference() -> None:
    words = [f"w{at}" for at in range(LONGEST_WORDS + 50)]
    pieces = mark_changes(" ".join(words), " ".join(["extra", *words]))
    assert pieces[0] == ("more", "extra") and [mark for mark, _ in pieces] == ["more", "same", "cut"]
    assert pieces[-1][1] == "… 51 words more"


def test_shared_runs_are_marked_where_they_are_long_enough() -> None:
    pieces = mark_shared("please say one two three four five six now", "ONE two three, four five six? say please")
    assert pieces == (("same", "please say"), ("more", "one two three four five six"), ("same", "now"))
    assert mark_shared("one two three", "one two three") == (("same", "one two three"),)
