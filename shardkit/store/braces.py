"""Brace expansion as bash and webdataset do it, counted before anything is expanded.

Here: parsing, counting, expanding.
Elsewhere: globs and URLs (patterns.py). The braceexpand package gives the same names (a test compares them) but
takes memory for all of `{0..9999999999}` before the first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shardkit.errors import SpecError
from shardkit.store.scrub import scrub

MAX_CHARACTERS = 64 << 10
MAX_DEPTH = 32
MAX_DIGITS = 18
_NUMBERS = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?(\d+))?")
_LETTER_ORDER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def has_braces(text: str) -> bool:
    """Whether there is a brace that is not taken literally."""
    return re.search(r"[{}]", re.sub(r"\\.", "", text, flags=re.DOTALL)) is not None


def expand_braces(text: str, max_names: int) -> Iterator[str]:
    r"""The names that an expression stands for, in its order, one at a time.

    `{a,b}`, `{01..10}`, `{1..9..2}`, `{a..e}`, nested and side by side; `\{` is a literal brace. Text without braces
    stands for itself. Raises SpecError: unbalanced braces, more than `max_names` names, too long or too deep.
    """
    if not has_braces(text):
        return iter([_unescape(text)])
    shown = scrub(text)
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"{shown[:200]}…: found {len(text)} characters, at most {MAX_CHARACTERS} are expanded")
    sequence = _Parser(text, shown).parse()
    if sequence.names > max_names:
        found = sequence.names if sequence.names < 10**MAX_DIGITS else f"over 10^{MAX_DIGITS}"
        raise SpecError(f"{shown}: gives {found} names, at most {max_names} are allowed; check the ranges")
    return _names(sequence)


class _Span(NamedTuple):
    """Numbers or letters that follow one another."""

    first: int
    step: int
    names: int
    width: int
    letters: bool


class _Choice(NamedTuple):
    """One of several sequences."""

    options: tuple[_Sequence, ...]
    names: int


class _Sequence(NamedTuple):
    """Parts side by side."""

    parts: tuple[str | _Span | _Choice, ...]
    names: int


def _names(sequence: _Sequence) -> Iterator[str]:
    pools = [[part] if isinstance(part, str) else list(_part_names(part)) for part in sequence.parts]
    return map("".join, itertools.product(*pools))


def _part_names(part: _Span | _Choice) -> Iterator[str]:
    if isinstance(part, _Choice):
        for option in part.options:
            yield from _names(option)
    else:
        for at in range(part.names):
            number = part.first + at * part.step
            yield _LETTER_ORDER[number] if part.letters else f"{number:0{part.width}d}"


class _Parser:
    def __init__(self, text: str, shown: str) -> None:
        self._text, self._shown = text, shown

    def parse(self) -> _Sequence:
        return self._sequence(self._text, 0)

    def _sequence(self, text: str, depth: int) -> _Sequence:
        """Text outside braces is literal; each balanced group is a span, a choice, or literal with its braces."""
        if depth > MAX_DEPTH:
            raise SpecError(f"{self._shown}: found braces nested deeper than {MAX_DEPTH}")
        parts: list[str | _Span | _Choice] = []
        literal, level, start, at = "", 0, 0, 0
        while at < len(text):
            char = text[at]
            if char == "\\" and at + 1 < len(text):
                literal += text[at + 1] if level == 0 else ""
                at += 2
                continue
            if char == "{":
                level += 1
                start = at + 1 if level == 1 else start
            elif char == "}" and level == 0:
                raise self._unbalanced()
            elif char == "}":
                level -= 1
                if level == 0:
                    parts += [literal, *self._group(text[start:at], depth)]
                    literal = ""
            elif level == 0:
                literal += char
            at += 1
        if level:
            raise self._unbalanced()
        return _sequence([*parts, literal])

    def _group(self, body: str, depth: int) -> Sequence[str | _Span | _Choice]:
        if re.search(rf"\d{{{MAX_DIGITS + 1}}}", body) and _NUMBERS.fullmatch(body):
            raise SpecError(f"{self._shown}: found a number with more than {MAX_DIGITS} digits in a range")
        span = _numbers(body) or _letters(body)
        if span is not None:
            return [span]
        pieces = _split(body)
        if len(pieces) == 1:  # neither a range nor a list: taken literally, with what is expanded inside
            return ["{", *self._sequence(body, depth + 1).parts, "}"]
        options = tuple(self._sequence(piece, depth + 1) for piece in pieces)
        return [_Choice(options, sum(option.names for option in options))]

    def _unbalanced(self) -> SpecError:
        return SpecError(
            f"{self._shown}: found unbalanced braces; close them, or write \\{{ and \\}} where a name holds braces"
        )


def _sequence(parts: Sequence[str | _Span | _Choice]) -> _Sequence:
    kept = tuple(part for part in parts if part != "")
    count = 1
    for part in kept:
        count *= 1 if isinstance(part, str) else part.names
    return _Sequence(kept, count)


def _numbers(body: str) -> _Span | None:
    match = _NUMBERS.fullmatch(body)
    if match is None:
        return None
    left, right, said = match[1], match[2], match[3]
    padded = any(re.fullmatch(r"-?0\d+", word) for word in (left, right))
    width = max(len(left), len(right)) if padded else 0
    return _span(int(left), int(right), said, width, letters=False)


def _letters(body: str) -> _Span | None:
    match = _LETTERS.fullmatch(body)
    if match is None:
        return None
    return _span(_LETTER_ORDER.index(match[1]), _LETTER_ORDER.index(match[2]), match[3], 0, letters=True)


def _span(first: int, last: int, said: str | None, width: int, *, letters: bool) -> _Span:
    step = max(1, int(said or 1))
    count = abs(last - first) // step + 1
    return _Span(first, step if last >= first else -step, count, width, letters)


def _split(body: str) -> list[str]:
    """The pieces between the commas that are in no inner braces."""
    pieces, level, start, at = [], 0, 0, 0
    while at < len(body):
        char = body[at]
        if char == "\\":
            at += 1
        elif char in "{}":
            level += 1 if char == "{" else -1
        elif char == "," and level == 0:
            pieces.append(body[start:at])
            start = at + 1
        at += 1
    return [*pieces, body[start:]]


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
