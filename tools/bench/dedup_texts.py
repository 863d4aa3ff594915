"""Texts with planted near-duplicates of known kinds, for measuring deduplication.

Here: the words, the texts, how a copy is altered, and the true similarity of each copy by an implementation of its own.
Elsewhere: what is measured with them (dedup.py).
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

VOCABULARY = 30_000
SHORTEST, LONGEST = 60, 240
PLANTED = 0.2
"""Of all texts, the copies altered so that their similarity is LEAST or above."""

FARTHER = 0.05
"""Of all texts, copies altered too much: they must not be found."""

FRAMED = 0.05
"""Of all texts, those in one frame of forty words: alike, and no copies."""

LEAST, TOO_FAR = 0.8, 0.78
SHINGLE_WORDS = 3


class Text(NamedTuple):
    """A text; `kind` says how it was made, `of` which text it is a copy of (its number, or -1)."""

    text: str
    kind: str
    of: int
    similarity: float


def make_texts(count: int, seed: int = 0) -> Iterator[Text]:
    """`count` texts, copies some way behind their originals. The same seed gives the same texts."""
    draw = random.Random(seed)
    words = Words(draw)
    originals: list[tuple[int, list[str]]] = []
    for number in range(count):
        what = draw.random()
        if originals and what < PLANTED + FARTHER:
            of, original = draw.choice(originals)
            yield _copy(draw, words, original, of, near=what < PLANTED)
            continue
        made = words.some(draw.randint(SHORTEST, LONGEST))
        if what < PLANTED + FARTHER + FRAMED:
            yield Text(_written(draw, [*words.frame, *made[:60]]), "framed", -1, 0.0)
            continue
        keep = (number, made)
        if len(originals) < KEPT:
            originals.append(keep)
        elif draw.random() < 0.5:
            originals[draw.randrange(KEPT)] = keep
        yield Text(_written(draw, made), "original", -1, 0.0)


KEPT = 20_000
"""Texts that copies may still be made of: so that a million texts need no memory."""


class Words:
    """Pseudo-words, frequent ones drawn more often (Zipf), and the sentence that frames some texts."""

    def __init__(self, draw: random.Random) -> None:
        syllables = [first + second for first in "bcdfghjklmnprstvwz" for second in "aeiou"]
        self._words = sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(VOCABULARY)})
        draw.shuffle(self._words)
        totals, total = [], 0.0
        for rank in range(len(self._words)):
            total += 1 / (rank + 10)
            totals.append(total)
        self._totals, self._draw = totals, draw
        self.frame = self.some(40)

    def some(self, count: int) -> list[str]:
        """`count` words."""
        return self._draw.choices(self._words, cum_weights=self._totals, k=count)


Alter = Callable[[random.Random, Words, list[str], float], list[str]]


def swap(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Exchange neighbouring words here and there."""
    altered = list(text)
    for _ in range(max(1, round(share * len(text) / 5))):
        at = draw.randrange(len(altered) - 1)
        altered[at], altered[at + 1] = altered[at + 1], altered[at]
    return altered


def replace(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Put other words in the place of some."""
    altered = list(text)
    for word in words.some(max(1, round(share * len(text) / 4))):
        altered[draw.randrange(len(altered))] = word
    return altered


def insert(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Insert words here and there."""
    altered = list(text)
    for word in words.some(max(1, round(share * len(text) / 4))):
        altered.insert(draw.randrange(len(altered) + 1), word)
    return altered


def cut(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Leave out the beginning or the end."""
    gone = max(1, round(share * len(text)))
    return text[gone:] if draw.random() < 0.5 else text[:-gone]


def surround(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Put boilerplate before and behind."""
    more = words.some(max(2, round(share * len(text))))
    half = draw.randrange(len(more) + 1)
    return [*more[:half], *text, *more[half:]]


def recase(draw: random.Random, words: Words, text: list[str], share: float) -> list[str]:
    """Change letters' case."""
    return [word.upper() if draw.random() < 0.5 else word.capitalize() for word in text]


KINDS: dict[str, Alter] = {
    "swapped": swap,
    "replaced": replace,
    "inserted": insert,
    "cut": cut,
    "boilerplate": surround,
    "case": recase,
}


def similarity(first: list[str], second: list[str]) -> float:
    """The Jaccard similarity of the sets of runs of three words, straight from its definition."""
    one, other = _runs(first), _runs(second)
    return len(one & other) / len(one | other)


def _copy(draw: random.Random, words: Words, original: list[str], of: int, *, near: bool) -> Text:
    while True:
        kind = draw.choice(sorted(KINDS) if near else sorted(set(KINDS) - {"case"}))
        share = draw.uniform(0.01, 0.2) if near else draw.uniform(0.2, 0.5)
        altered = KINDS[kind](draw, words, original, share)
        found = similarity(original, altered)
        if (near and found >= LEAST) or (not near and found < TOO_FAR):
            return Text(_written(draw, altered), kind if near else "too far", of, found)


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    small = [word.lower() for word in words]
    return {tuple(small[at : at + SHINGLE_WORDS]) for at in range(len(small) - SHINGLE_WORDS + 1)}


def _written(draw: random.Random, words: list[str]) -> str:
    """Words as text: commas, full stops and line ends among them."""
    gaps = draw.choices((" ", ", ", ". ", "\n", "  "), cum_weights=(80, 88, 94, 97, 100), k=len(words))
    return "".join(map(operator.add, words, gaps)).strip()
