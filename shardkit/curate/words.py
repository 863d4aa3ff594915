"""Words of a text as numbers, and runs of words: what near-duplicates and benchmark rows are recognised by.

Here: what a word is, its hash, the hashes of all runs of n words of many texts at once.
Elsewhere: what is done with them (text.py, ngrams.py).

A word is a run of letters and digits, in Unicode's NFKC form and case-folded; of scripts that are written without
spaces each character is one. White space, case and punctuation thus make no difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from shardkit.spec.curation import MOST_RUN_WORDS

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

PIECE_CHARACTERS = 1 << 18
"""Longer texts are taken apart so, shorter ones put together: what is in memory at a time."""

LONGEST_WORD = 4096
"""What is longer in a text that is taken apart may be cut in two."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana, Han."""

_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_ASCII = bytes(
    code + 32 if 65 <= code <= 90 else code if 48 <= code <= 57 or 97 <= code <= 122 else 32 for code in range(256)
)
"""What becomes of each octet of ASCII text: letters small, digits as they are, all else a space."""

_MULTIPLIERS: U64 = np.array(
    [int.from_bytes(xxhash.xxh3_64_digest(b"place %d" % at), "big") | 1 for at in range(MOST_RUN_WORDS)],
    dtype=np.uint64,
)


class Runs(NamedTuple):
    """Hashes of runs of words, and which text each belongs to (ascending)."""

    hashes: U64
    texts: I64


def split_words(text: str) -> list[bytes]:
    """The words of a text in order, as UTF-8."""
    return fold(text).split()


def hash_words(text: str) -> U64:
    """A hash of each word of a text in order; a text without words that is not empty, such as "→", is one word."""
    return hash_texts([text])[0]


def hash_texts(texts: Sequence[str]) -> list[U64]:
    """The same of many texts, several times as fast as one by one.

    A word's hash is a polynomial over its octets in UTF-8, modulo 2**64, which numpy sums up for all words at once:
    looking each word up in a table of hashes took ten times as long.
    """
    made: list[U64] = []
    waiting: list[bytes] = []
    size = 0
    for text in texts:
        if len(text) > PIECE_CHARACTERS:
            made += [*_hash_folded(waiting), np.concatenate([_hash_folded([fold(one)])[0] for one in _pieces(text)])]
            waiting, size = [], 0
            continue
        folded = fold(text)
        waiting.append(folded)
        size += len(folded)
        if size >= PIECE_CHARACTERS:
            made += _hash_folded(waiting)
            waiting, size = [], 0
    made += _hash_folded(waiting)
    for number, words in enumerate(made):
        if not len(words) and (signs := "".join(texts[number].split())):
            made[number] = np.array([xxhash.xxh3_64_intdigest(signs.encode("utf-8", "surrogatepass"))], np.uint64)
    return made


def fold(text: str) -> bytes:
    """The words of a text as UTF-8, with spaces between them and nothing else."""
    if text.isascii():
        return text.encode().translate(_ASCII)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_WORD.findall(folded)).encode("utf-8", "surrogatepass")


def hash_runs(texts: Sequence[U64], length: int) -> Runs:
    """Of each text, given as hashes of its words, the hashes of all runs of `length` words in order.

    A shorter text has none. `length` is at most MOST_RUN_WORDS.
    """
    sizes = np.fromiter((len(words) for words in texts), np.int64, len(texts))
    words: U64 = np.concatenate([*texts, np.zeros(0, np.uint64)])
    total = len(words) - length + 1
    if total <= 0:
        return Runs(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    owners = np.repeat(np.arange(len(texts)), sizes)
    mixed = words[:total] * _MULTIPLIERS[0]
    for at in range(1, length):
        mixed += words[at : at + total] * _MULTIPLIERS[at]
    within = owners[:total] == owners[length - 1 :]
    return Runs(mix(mixed[within]), owners[:total][within])


def mix(values: U64) -> U64:
    """Spread every bit of each value over all 64 (the finaliser of MurmurHash3)."""
    mixed = values ^ (values >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def _hash_folded(texts: Sequence[bytes]) -> list[U64]:
    if not texts:
        return []
    octets = np.frombuffer(b" ".join([*texts, b""]), np.uint8)
    gaps = octets == 32
    before = np.ones(len(gaps), dtype=bool)
    before[1:] = gaps[:-1]
    starts, stops = np.flatnonzero(before & ~gaps), np.flatnonzero(gaps & ~before)
    powers, inverses = _powers(len(octets))
    sums = np.zeros(len(octets) + 1, np.uint64)
    np.cumsum(octets * powers[: len(octets)], out=sums[1:])
    words = (sums[stops] - sums[starts]) * inverses[starts] + (stops - starts).astype(np.uint64)
    ends = np.cumsum([len(text) + 1 for text in texts])
    return np.split(mix(words), np.searchsorted(starts, ends[:-1]))


_BASE = int(_MULTIPLIERS[-1])


def _powers(count: int) -> tuple[U64, U64]:
    """Powers of the polynomial's base and of its inverse, modulo 2**64: at least `count` of each."""
    return _powers_up_to(max(1 << 16, 1 << (count - 1).bit_length()))


@lru_cache(maxsize=2)
def _powers_up_to(count: int) -> tuple[U64, U64]:
    bases = _BASE, pow(_BASE, -1, 1 << 64)
    powers, inverses = (np.full(count, base, np.uint64) for base in bases)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers), np.cumprod(inverses)


def _pieces(text: str) -> list[str]:
    """The text in pieces of about PIECE_CHARACTERS, cut at white space where there is some."""
    if len(text) <= PIECE_CHARACTERS:
        return [text]
    pieces, start = [], 0
    while start < len(text):
        stop = start + PIECE_CHARACTERS
        far = min(stop + LONGEST_WORD, len(text))
        gap = next((at for at in range(stop, far) if text[at].isspace()), far)
        pieces.append(text[start:gap])
        start = gap
    return pieces
