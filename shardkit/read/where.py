r"""Filters over what the index says of samples: the expression, and which rows of a shard it takes.

Here: the grammar, its canonical text, deciding whole shards by the manifest, rows by columns.
Elsewhere: keeping the answer for a dataset (view.py), the columns themselves (store.index).

    clause {"," clause}           every clause must hold
    clause = field op value {"|" value}
    modality = != ~ !~            set as a whole (`image+text`), or a modality that is in it (`modality~image`)
    category licence source split = !=
    images pixels frames audio_ms text_characters = != < <= > >=      one whole number
    A value with one of , | " in it, or blanks around it, is written in double quotes, with \" and \\ inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from shardkit.errors import SpecError
from shardkit.store.index import IndexHead, IndexPage
from shardkit.store.layout import ShardEntry

Bools: TypeAlias = NDArray[np.bool_]
Op = Literal["=", "!=", "~", "!~", "<", "<=", ">", ">="]

WORDS = {"modality": "modality_sets", "category": "categories", "licence": "licences", "source": "sources"}
"""Fields of words, and the index's column and dictionary of each."""

SPLIT = "split"
MODALITIES = ("text", "image", "audio", "video")
NUMBERS = ("images", "pixels", "frames", "audio_ms", "text_characters")
MOST_TEXT = 10_000
_CLAUSE = re.compile(r"\s*([a-z_]+)\s*(!=|!~|<=|>=|=|~|<|>)")
_VALUE = re.compile(r'\s*(?:"((?:[^"\\]|\\["\\])*)"|([^,|"]*))\s*')
_COMPARE: dict[str, Callable[[NDArray[np.uint64], np.uint64], Bools]] = {
    "=": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


class FactColumns:
    """What the index of a shard, or of one block, says of its samples besides where they lie."""

    __slots__ = ("_page", "_words")

    def __init__(self, head: IndexHead, page: IndexPage) -> None:
        self._page = page
        self._words = {column: getattr(head, column) for column in WORDS.values()}

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self._page.samples

    def numbers(self, name: str) -> NDArray[np.uint64]:
        """A column of NUMBERS."""
        return self._page.column(name).astype(np.uint64)

    def words(self, column: str) -> tuple[tuple[str, ...], NDArray[np.uint16]]:
        """A dictionary, and each sample's position in it."""
        return self._words[column], self._page.column(column)


class Clause(msgspec.Struct, frozen=True):
    """One condition on one field."""

    field: str
    op: Op
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.field}{self.op}{'|'.join(_quoted(value) for value in self.values)}"

    def accepts(self, word: str) -> bool:
        """Whether a word of this field (a set of modalities, a category, …) fulfils the clause."""
        if self.op in ("~", "!~"):
            return any(value in word.split("+") for value in self.values) == (self.op == "~")
        return (word in self.values) == (self.op == "=")

    def accepts_rows(self, facts: FactColumns) -> Bools:
        """Which rows fulfil the clause; not for `split`, which the index does not hold."""
        if self.field in NUMBERS:
            return _COMPARE[self.op](facts.numbers(self.field), np.uint64(int(self.values[0])))
        words, positions = facts.words(WORDS[self.field])
        return accepted(self, words, positions)

    def decide(self, words: Sequence[str]) -> bool | None:
        """What the clause says of every sample whose word is one of these: all, none, or one must look (None)."""
        found = {self.accepts(word) for word in words}
        return found.pop() if len(found) == 1 else None


class Filter(msgspec.Struct, frozen=True):
    """Clauses which all must hold, in the order of their text; `str` gives the canonical expression."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return ",".join(str(clause) for clause in self.clauses)

    @property
    def needs_split(self) -> bool:
        """Whether a clause asks for the split."""
        return any(clause.field == SPLIT for clause in self.clauses)


def parse_where(text: str) -> Filter:
    """The filter that an expression describes. Raises SpecError, which names the field or place."""
    if not isinstance(text, str):
        raise SpecError(f"the filter is {text!r}; wanted an expression such as 'modality~image,images<3'")
    if len(text) > MOST_TEXT:
        raise SpecError(f"the filter has {len(text)} characters; wanted at most {MOST_TEXT}")
    at, clauses = 0, set()
    while True:
        match = _CLAUSE.match(text, at)
        if match is None:
            known = ", ".join((*WORDS, SPLIT, *NUMBERS))
            raise SpecError(f"filter: found {text[at : at + 40]!r}; wanted FIELD OP VALUE with a field of: {known}")
        values, at = _values(text, match.end())
        clauses.add(_checked(match[1], match[2], values))
        if at == len(text):
            return Filter(tuple(sorted(clauses, key=str)))
        at += 1  # the comma


def decide_shard(clause: Clause, entry: ShardEntry) -> bool | None:
    """What the manifest alone says of a clause for all samples of a shard; None where it does not say."""
    if sum(entry.modalities.values()) != entry.samples:  # a manifest that does not describe its shards
        return None
    if clause.field == "modality":
        return clause.decide([word for word, samples in entry.modalities.items() if samples])
    if clause.field in NUMBERS and getattr(entry.sums, clause.field) == 0:
        return bool(_COMPARE[clause.op](np.zeros(1, dtype=np.uint64), np.uint64(int(clause.values[0])))[0])
    if clause.field == "licence" and not entry.licences:
        return clause.accepts("")
    return None


def decide_head(clause: Clause, head: IndexHead) -> bool | None:
    """What an index's dictionaries say of a clause for all samples of the shard."""
    return clause.decide(getattr(head, WORDS[clause.field])) if clause.field in WORDS else None


def accepted(clause: Clause, words: Sequence[str], positions: NDArray[np.unsignedinteger]) -> Bools:
    """Which of the samples whose words lie at these positions of a dictionary fulfil a clause."""
    taken = np.array([clause.accepts(word) for word in words], dtype=np.bool_)
    rows: Bools = taken[positions]
    return rows


def _values(text: str, at: int) -> tuple[tuple[str, ...], int]:
    values: list[str] = []
    while True:
        match = _VALUE.match(text, at)
        assert match is not None, "the pattern takes the empty text"
        values.append(match[2].strip() if match[1] is None else re.sub(r"\\(.)", r"\1", match[1]))
        at = match.end()
        if at == len(text) or text[at] == ",":
            return tuple(sorted(set(values))), at
        if text[at] != "|":
            raise SpecError(f"filter: found {text[at : at + 40]!r} behind a value; wanted a comma, | or the end")
        at += 1


def _checked(field: str, op: str, values: tuple[str, ...]) -> Clause:
    text = f"{field}{op}{'|'.join(values)}"
    if field in NUMBERS:
        if op not in _COMPARE or len(values) != 1 or not re.fullmatch(r"[0-9]{1,18}", values[0]):
            raise SpecError(f"filter {text!r}: {field} is compared by = != < <= > >= with one whole number")
        return Clause(field, op, (str(int(values[0])),))  # type: ignore[arg-type]
    if field not in (*WORDS, SPLIT):
        raise SpecError(f"filter {text!r}: no field {field!r}; there are: {', '.join((*WORDS, SPLIT, *NUMBERS))}")
    if op not in ("=", "!=") and not (field == "modality" and op in ("~", "!~")):
        raise SpecError(f"filter {text!r}: {field} cannot be compared by {op!r}")
    if field == "modality":
        _refuse_unknown(text, op, values)
    if op in ("=", "!=") and field == "modality":
        values = tuple(sorted({"+".join(sorted({*value.split("+")})) for value in values}))
    return Clause(field, op, values)  # type: ignore[arg-type]


def _refuse_unknown(text: str, op: str, values: tuple[str, ...]) -> None:
    """A modality that no dataset has is a typo, which would silently take nothing, or everything."""
    if op in ("~", "!~"):  # compares with each modality by itself
        words, known = {*values}, {*MODALITIES}
    else:
        words, known = {word for value in values for word in value.split("+")}, {*MODALITIES, ""}
    unknown = sorted(words - known)
    if unknown:
        raise SpecError(f"filter {text!r}: no modality {unknown[0]!r}; there are: {', '.join(MODALITIES)}")


def _quoted(value: str) -> str:
    if re.search(r'[,|"]', value) or value != value.strip():
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value
