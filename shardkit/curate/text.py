"""Near-duplicate text: shingles, MinHash signatures, bands, and the true Jaccard similarity that decides.

Here: the shingles of texts, their signatures (rensa's R-MinHash), the bands under which candidates meet.
Elsewhere: words (words.py), where candidates meet (table.py), which pairs become clusters (clusters.py).

A shingle is a run of three words, a text of fewer words is one shingle. Two texts are near-duplicates where the
shingles that both have are at least `threshold` of those that either has (Jaccard, as sets). Of 100 words, three
changed ones leave 0.83. Characters in place of words would find a changed word in a short text as well, but also two
questions of one template with other numbers; and unrelated texts in one language share a tenth of their 5-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardkit.curate.words import U64, hash_runs, mix
from shardkit.errors import SpecError

SHINGLE_WORDS = 3
PERMUTATIONS = 120
BAND_ROWS = ((0.78, 6), (0.7, 5), (0.6, 4), (0.0, 3))
"""(least threshold, entries of a signature in a band): a pair at its threshold meets with probability 0.98 or more.

For 0.8 that is 20 bands of 6: a pair at 0.8 meets with probability 0.998, at 0.85 0.9999, at 0.5 0.27, at 0.1 0.00002.
"""

SEED = 20
SLACK = 0.2
"""A pair whose signatures agree by less than the threshold minus this is no candidate: five standard deviations."""

U32 = npt.NDArray[np.uint32]


class Shingles:
    """Shingles of many texts: those of text i are `values[starts[i]:starts[i + 1]]`, ascending, each once."""

    def __init__(self, values: U32, starts: npt.NDArray[np.int64]) -> None:
        self.values, self.starts = values, starts

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many each text has."""
        return np.diff(self.starts)


def shingle(texts: Sequence[U64]) -> Shingles:
    """The shingles of texts, given as hashes of their words; an empty text has none."""
    runs = hash_runs([_at_least_a_run(words) for words in texts], SHINGLE_WORDS)
    whole = (runs.texts.astype(np.uint64) << np.uint64(32)) | (runs.hashes >> np.uint64(32))
    whole.sort()
    first = np.ones(len(whole), dtype=bool)
    first[1:] = whole[1:] != whole[:-1]
    whole = whole[first]
    starts = np.searchsorted(whole, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(32))
    return Shingles((whole & np.uint64(0xFFFFFFFF)).astype(np.uint32), starts.astype(np.int64))


def sign(shingles: Shingles) -> U32:
    """MinHash signatures (texts, PERMUTATIONS); of a text without shingles, all the highest number.

    Raises SpecError where rensa is not installed.
    """
    rensa = _rensa()
    flat = mix(shingles.values.astype(np.uint64) + np.uint64(1))
    made = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        flat, shingles.starts.astype(np.uint64), num_perm=PERMUTATIONS, seed=SEED
    )
    return np.array(made.to_rows(), dtype=np.uint32).reshape(len(shingles.starts) - 1, PERMUTATIONS)


def band_rows(threshold: float) -> int:
    """How many entries of a signature make a band, for pairs at a threshold and above to meet."""
    return next(rows for least, rows in BAND_ROWS if threshold >= least)


def band(signatures: U32, exact: U64, rows: int) -> U64:
    """(texts, bands of `rows` entries): two share a value where a whole band is equal, and so is `exact`."""
    bands = PERMUTATIONS // rows
    values: U64 = mix(exact)[:, None] + np.arange(1, bands + 1, dtype=np.uint64)[None, :]
    grouped = signatures.reshape(-1, bands, rows).astype(np.uint64)
    for row in range(rows):
        values = mix(values + grouped[:, :, row])
    return values


def shorten(signatures: U32) -> npt.NDArray[np.uint8]:
    """The low octet of each entry: enough to see whether two signatures agree."""
    return (signatures & np.uint32(0xFF)).astype(np.uint8)


def agreement(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """An estimate of the Jaccard similarity of pairs of texts, from shortened signatures (pairs, PERMUTATIONS)."""
    equal: npt.NDArray[np.float64] = np.count_nonzero(first == second, axis=1) / first.shape[1]
    return (equal - 1 / 256) / (1 - 1 / 256)


def jaccard(first: U32, second: U32) -> float:
    """The Jaccard similarity of two sets of shingles, ascending; of two empty ones 1."""
    if len(first) == len(second) and np.array_equal(first, second):
        return 1.0
    both = np.concatenate((first, second))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def method(threshold: float) -> str:
    """What the signatures were made with, for the record of a version."""
    rows, made = band_rows(threshold), _rensa().RMinHash.ALGORITHM_VERSION
    return f"R-MinHash {made}, {PERMUTATIONS // rows}x{rows}, seed {SEED}, runs of {SHINGLE_WORDS} words"


def _at_least_a_run(words: U64) -> U64:
    if 0 < len(words) < SHINGLE_WORDS:
        return np.concatenate((words, np.zeros(SHINGLE_WORDS - len(words), np.uint64)))
    return words


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise SpecError("near-duplicate text needs rensa; install it with `pip install 'shardkit[curate]'`") from None
    return rensa
