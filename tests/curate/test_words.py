"""Words and their runs: what makes no difference, and that runs are what they are said to be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.curate import words as module
from shardkit.curate.words import hash_runs, hash_texts, hash_words, split_words

WORD = st.text(st.sampled_from("abcxyzäßéжя019"), min_size=1, max_size=6)
GAP = st.sampled_from([" ", "  ", "\n", "\t", ", ", ". ", " - ", "!? ", " 'n' "[:1] + " ", "\u00a0"])


@given(st.lists(WORD, min_size=1, max_size=12), st.data())
def test_white_space_case_and_punctuation_make_no_difference(words: list[str], data: st.DataObject) -> None:
    written = "".join((word.upper() if data.draw(st.booleans()) else word) + data.draw(GAP) for word in words)
    assert split_words(written) == split_words(" ".join(words))


@given(st.lists(st.lists(WORD, max_size=5), min_size=1, max_size=6))
def test_equal_words_and_no_others_have_equal_hashes_wherever_they_stand(written: list[list[str]]) -> None:
    found = hash_texts([" - ".join(words) for words in written])
    seen: dict[int, bytes] = {}
    for words, hashes in zip(written, found, strict=True):
        folded = split_words(" ".join(words))
        assert len(folded) == len(hashes)
        for word, one in zip(folded, hashes.tolist(), strict=True):
            assert seen.setdefault(one, word) == word
    assert len(seen) == len({word for words in written for word in split_words(" ".join(words))})


def test_words_in_any_script() -> None:
    assert split_words("Don't STOP, x_y=1,000!") == [b"don", b"t", b"stop", b"x", b"y", b"1", b"000"]
    assert [word.decode() for word in split_words("Straße ﬁn 日本語です Привет")] == [
        "strasse", "fin", "日", "本", "語", "で", "す", "привет",
    ]  # fmt: skip
    assert split_words("  …  ") == []


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), max_size=6), st.integers(1, 5))
def test_runs_are_those_within_each_text(numbers: list[list[int]], length: int) -> None:
    texts = [np.array(text, np.uint64) for text in numbers]
    runs = hash_runs(texts, length)
    wanted = [
        (at, tuple(text[i : i + length])) for at, text in enumerate(numbers) for i in range(len(text) - length + 1)
    ]
    assert runs.texts.tolist() == [at for at, _ in wanted]
    by_hash: dict[int, tuple[int, ...]] = {}
    for found, (_, run) in zip(runs.hashes.tolist(), wanted, strict=True):
        assert by_hash.setdefault(found, run) == run  # equal hashes, equal runs
    assert len(by_hash) == len({run for _, run in wanted})  # equal runs, equal hashes


@settings(max_examples=20)
@given(st.lists(WORD, min_size=50, max_size=200), st.integers(20, 400))
def test_a_long_text_is_taken_apart_without_a_trace(words: list[str], size: int) -> None:
    text, whole = " ".join(words), hash_words(" ".join(words))
    kept = module.PIECE_CHARACTERS
    try:
        module.PIECE_CHARACTERS = size
        assert np.array_equal(hash_words(text), whole)
    finally:
        module.PIECE_CHARACTERS = kept
