"""Comparing answers with what was expected: exactly after normalising, and by edits.

Here: normal forms of text, edit distance, error rates.
Elsewhere: getting answers from a model (answers.py).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

SILENT = str.maketrans("", "", ".,;:!?…\"„“”«»‘’'¡¿()-–—")
"""Punctuation that nobody speaks. `#` and `*` are keys of a telephone, `%` and `+` are words."""


def normalise(text: str) -> str:
    """Text for an exact comparison: one form of every character, no case, single spaces, no full stop at the end."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).removesuffix(".").rstrip()


def spoken(text: str) -> str:
    """Text as it is heard: normalised and without punctuation."""
    return " ".join(normalise(text).translate(SILENT).split())


def is_exact(expected: str, found: str) -> bool:
    """Whether two answers are the same once normalised."""
    return normalise(expected) == normalise(found)


def character_error_rate(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Edits of characters over all pairs (expected, found) for each expected character; none without any."""
    return _error_rate((list(spoken(expected)), list(spoken(found))) for expected, found in pairs)


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Edits of words over all pairs (expected, found) for each expected word; none without any. May exceed 1."""
    return _error_rate((spoken(expected).split(), spoken(found).split()) for expected, found in pairs)


def edits(first: Sequence[str], second: Sequence[str]) -> int:
    """The least number of insertions, deletions and replacements from one to the other (Levenshtein 1966)."""
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(second, 1):
            replaced = before + (one != other)
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, replaced)
    return row[-1]


def _error_rate(pairs: Iterable[tuple[list[str], list[str]]]) -> float | None:
    counted = [(edits(expected, found), len(expected)) for expected, found in pairs]
    total = sum(length for _, length in counted)
    return sum(number for number, _ in counted) / total if total else None
