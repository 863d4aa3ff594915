"""Decontamination: samples that hold what a row of a benchmark says.

Here: the runs of words of all benchmarks' rows, and finding them in samples.
Elsewhere: reading benchmarks (benchmarks.py), words (words.py), leaving samples out (omit.py).

A sample is contaminated that holds a run of 13 words of a row, however it is written as to white space, case and
punctuation. A text of a row with fewer words (but four at least) must be a whole message; a row that has only shorter
ones must be the whole sample; a question about a picture counts with its answer only. Runs and short texts that many
rows of a benchmark share are its frame ("Choose the right answer …") and say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from shardkit.curate.benchmarks import Benchmark, read_rows
from shardkit.curate.words import U64, hash_runs, hash_words
from shardkit.errors import SpecError

LEAST_WHOLE_WORDS = 4
"""A shorter text of a row, such as an answer "72", stands in too many samples to say anything."""

FRAME_ROWS, FRAME_SHARE = 50, 0.01
"""A run in more rows of a benchmark than both of these is its frame."""

MOST_GRAMS = 1 << 24
"""Runs of all benchmarks together: 16 bytes each in memory, twice that while they are sorted."""

LEAST_SIEVE_BITS, SIEVE_SPARSE = 16, 5
"""Of a sieve over the hashes' first bits: at least so many, and 2**5 places a run: one run in thirty passes."""

ROWS_AT_ONCE = 4096


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a benchmark gave: rows, runs kept, runs of its frame, short texts kept whole, rows too short to find.

    `dataset` and `revision` are those of its source, `entry` is its name in the catalog, where it has them.
    """

    name: str
    digest: str
    entry: str = ""
    dataset: str = ""
    revision: str = ""
    rows: int
    runs: int
    frame: int
    whole: int
    too_short: int


class Hit(NamedTuple):
    """Text number `text` holds what row `row` (from 0) of benchmark `benchmark` says."""

    text: int
    benchmark: int
    row: int


class Grams:
    """Runs of words of benchmarks, ascending, each with the first row that has it; short texts by their hash."""

    def __init__(self, length: int, hashes: U64, origins: U64, whole: dict[int, int]) -> None:
        self.length = length
        self._hashes, self._origins, self._whole = hashes, origins, whole
        self._begin()

    def find(self, samples: Sequence[Sequence[U64]]) -> list[Hit]:
        """The first hit of each sample that has one; a sample is given as hashes of the words of each of its parts."""
        found: dict[int, int] = self._find_runs([_joined(parts) for parts in samples])
        if self._whole:
            for number, parts in enumerate(samples):
                if number not in found and (origin := self._find_whole(parts)) is not None:
                    found[number] = origin
        return [Hit(number, origin >> 32, origin & 0xFFFFFFFF) for number, origin in sorted(found.items())]

    def _find_runs(self, texts: Sequence[U64]) -> dict[int, int]:
        runs = hash_runs(texts, self.length)
        likely = np.flatnonzero(self._sieve[runs.hashes >> self._shift])
        places = np.searchsorted(self._hashes, runs.hashes[likely])
        places = np.minimum(places, max(len(self._hashes) - 1, 0))
        sure = self._hashes[places] == runs.hashes[likely] if len(self._hashes) else np.zeros(0, bool)
        found: dict[int, int] = {}
        for number, place in zip(runs.texts[likely][sure].tolist(), places[sure].tolist(), strict=True):
            found.setdefault(number, int(self._origins[place]))
        return found

    def _find_whole(self, parts: Sequence[U64]) -> int | None:
        for words in (*parts, _joined(parts)):
            if len(words) < 4 * self.length and (origin := self._whole.get(_hash_whole(words))) is not None:
                return origin
        return None

    def _begin(self) -> None:
        bits = min(26, max(LEAST_SIEVE_BITS, len(self._hashes).bit_length() + SIEVE_SPARSE))
        self._shift = np.uint64(64 - bits)
        self._sieve: npt.NDArray[np.bool_] = np.zeros(1 << bits, dtype=bool)
        self._sieve[self._hashes >> self._shift] = True

    def __getstate__(self) -> tuple[int, U64, U64, dict[int, int]]:
        return self.length, self._hashes, self._origins, self._whole

    def __setstate__(self, state: tuple[int, U64, U64, dict[int, int]]) -> None:
        self.length, self._hashes, self._origins, self._whole = state
        self._begin()


def gather_grams(benchmarks: Sequence[Benchmark], length: int) -> tuple[Grams, tuple[Counts, ...]]:
    """The runs of `length` words of all benchmarks' rows, and what each gave. Raises as read_rows, and SpecError."""
    hashes: list[U64] = []
    origins: list[U64] = []
    whole: dict[int, int] = {}
    counts = []
    for number, benchmark in enumerate(benchmarks):
        own = _gather(benchmark, number, length)
        hashes.append(own.hashes)
        origins.append(own.origins)
        whole = own.whole | whole
        counts.append(own.counts)
        if sum(map(len, hashes)) > MOST_GRAMS:
            raise SpecError(
                f"the benchmarks have more than {MOST_GRAMS:,} runs of {length} words up to {benchmark.where}; give "
                "fewer at a time: `shardkit dedup` may be run once for each"
            )
    merged, first = np.unique(np.concatenate([*hashes, np.zeros(0, np.uint64)]), return_index=True)
    return Grams(length, merged, np.concatenate([*origins, np.zeros(0, np.uint64)])[first], whole), tuple(counts)


class _Own(NamedTuple):
    """What one benchmark gave."""

    hashes: U64
    origins: U64
    whole: dict[int, int]
    counts: Counts


def _gather(benchmark: Benchmark, number: int, length: int) -> _Own:
    hashes: list[U64] = [np.zeros(0, np.uint64)]
    rows: list[U64] = [np.zeros(0, np.uint64)]
    whole: dict[int, int] = {}
    spoken: Counter[int] = Counter()
    total = too_short = 0
    for first, texts in _batches(benchmark):
        total += len(texts)
        words = [[hash_words(text) for text in row] for row in texts]
        flat = [own for row in words for own in row]
        owners = np.repeat(np.arange(len(words)), [len(row) for row in words])
        runs = hash_runs(flat, length)
        hashes.append(runs.hashes)
        rows.append((owners[runs.texts] + first).astype(np.uint64))
        for at, row in enumerate(words, first):
            short = _short(row, length)
            too_short += short is None
            for text in {_hash_whole(text) for text in short or ()}:
                whole.setdefault(text, number << 32 | at)
                spoken[text] += 1
    kept, origins, frame = _without_frame(np.concatenate(hashes), np.concatenate(rows), total)
    whole = {text: origin for text, origin in whole.items() if spoken[text] <= _most_rows(total)}
    counts = Counts(
        name=benchmark.name, digest=benchmark.digest, rows=total, runs=len(kept), frame=frame, whole=len(whole),
        too_short=too_short, **benchmark.origin,
    )  # fmt: skip
    return _Own(kept, origins | np.uint64(number << 32), whole, counts)


def _batches(benchmark: Benchmark) -> Iterable[tuple[int, list[list[str]]]]:
    waiting: list[list[str]] = []
    first = 0
    for texts in read_rows(benchmark):
        waiting.append(texts)
        if len(waiting) == ROWS_AT_ONCE:
            yield first, waiting
            first, waiting = first + len(waiting), []
    if waiting:
        yield first, waiting


def _short(row: Sequence[U64], length: int) -> list[U64] | None:
    """What of a row is looked for as a whole; None where nothing of it can be found at all."""
    found = [words for words in row if LEAST_WHOLE_WORDS <= len(words) < length]
    if found or any(len(words) >= length for words in row):
        return found
    joined = _joined(row)
    return [joined] if len(row) > 1 and len(joined) >= LEAST_WHOLE_WORDS - 1 else None


def _without_frame(hashes: U64, rows: U64, total: int) -> tuple[U64, U64, int]:
    """(runs ascending, the first row of each, how many were left out as the benchmark's frame)."""
    order = np.lexsort((rows, hashes))
    hashes, rows = hashes[order], rows[order]
    fresh = np.ones(len(hashes), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    hashes, rows = hashes[fresh], rows[fresh]
    unique, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    kept = counts <= _most_rows(total)
    return unique[kept], rows[first[kept]], int(np.count_nonzero(~kept))


def _most_rows(total: int) -> float:
    """What more rows say is the frame of a benchmark of so many rows."""
    return max(FRAME_ROWS, FRAME_SHARE * total)


def _joined(parts: Sequence[U64]) -> U64:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash_whole(words: U64) -> int:
    return xxhash.xxh3_64_intdigest(words.tobytes())
