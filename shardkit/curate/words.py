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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

PIECE_CHARACTERS = 1 << 18
"""Longer texts are taken apart so: every word of a piece is an object of some sixty bytes for a moment."""

MOST_KNOWN = 1 << 17
"""Words whose hashes are remembered: about 16 MB. The hash is a pure function, so forgetting changes nothing."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana, Han."""

_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_ASCII = bytes(
    code + 32 if 65 <= code <= 90 else code if 48 <= code <= 57 or 97 <= code <= 122 else 32 for code in range(256)
)
"""What becomes of each octet of ASCII text: letters small, digits as they are, all else a space."""

_MULTIPLIERS: U64 = np.array(
    [int.from_bytes(xxhash.xxh3_64_digest(b"place %d" % at), "big") | 1 for at in range(64)], dtype=np.uint64
)
MOST_IN_A_RUN = len(_MULTIPLIERS)


class Runs(NamedTuple):
    """Hashes of runs of words, and which text each belongs to (ascending)."""

    hashes: U64
    texts: I64


class _Known(dict[bytes, bytes]):
    """Hashes of words as 8 octets, remembered up to a number."""

    def __missing__(self, word: bytes) -> bytes:
        if len(self) >= MOST_KNOWN:
            self.clear()
        found = self[word] = xxhash.xxh3_64_digest(word)
        return found


_known = _Known()


def split_words(text: str) -> list[bytes]:
    """The words of a text in order, as UTF-8."""
    if text.isascii():
        return text.encode().translate(_ASCII).split()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_WORD.findall(folded)).encode("utf-8", "surrogatepass").split()


def hash_words(text: str) -> U64:
    """XXH3-64 of each word of a text in order."""
    pieces = [_hashes(split_words(piece)) for piece in _pieces(text)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def hash_runs(texts: Sequence[U64], length: int) -> Runs:
    """Of each text, given as hashes of its words, the hashes of all runs of `length` words in order.

    A shorter text has none. `length` is at most MOST_IN_A_RUN.
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


def _hashes(words: list[bytes]) -> U64:
    # joined octets take a third of the time of numbers, which numpy would take over one by one
    return np.frombuffer(b"".join(map(_known.__getitem__, words)), ">u8").astype(np.uint64)


def _pieces(text: str) -> list[str]:
    """The text in pieces of about PIECE_CHARACTERS, cut at white space where there is some."""
    if len(text) <= PIECE_CHARACTERS:
        return [text]
    pieces, start = [], 0
    while start < len(text):
        stop = start + PIECE_CHARACTERS
        gap = next((at for at in range(stop, min(stop + 4096, len(text))) if text[at].isspace()), stop)
        pieces.append(text[start:gap])
        start = gap
    return pieces
