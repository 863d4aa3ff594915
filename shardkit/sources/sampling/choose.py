"""Choosing rows: the keyed hash, strata and their quotas, spare rows.

Here: from a pass over a source to the list of chosen rows.
Elsewhere: the pass (scan.py), the list on disk (chosen.py), reading the rows (sampled.py).

The list is a function of (seed, revision, how many are wanted, the source's rows) and of nothing else. It begins with
as many rows as are wanted, in the source's order; behind them come spare rows, the next best ones, which are read only
where earlier ones became no samples. A longer list of spares begins with the shorter one, so that it can be made when
it is needed: spares come in blocks of 4, 8, 16, …, each in the source's order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import xxhash
from blake3 import blake3

from shardkit.errors import SpecError
from shardkit.records.normalize.columns import field
from shardkit.sources.gather import is_wanted
from shardkit.sources.sampling.chosen import Chosen, Head
from shardkit.sources.sampling.reservoir import Reservoir, Spool
from shardkit.sources.sampling.scan import Scanned
from shardkit.spec import SourceSpec
from shardkit.spec.sampling import RandomRows, StratifiedRows
from shardkit.spec.shares import share_within, weight_of

FIRST_BLOCK = 4
MAX_STRATA = 10_000

Scan = Callable[[tuple[str, ...]], Iterator[Scanned]]
Entry = tuple[int, int]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be chosen: `count` rows and at least `spares` more, by the source's sampling, of the rows it wants.

    `seed` is the build's; `revision` the source's, as pinned.
    """

    spec: SourceSpec
    seed: int
    revision: str
    count: int
    spares: int

    @property
    def identity(self) -> bytes:
        """What the list depends on."""
        spec = self.spec
        rows = [spec.sampling, spec.where, spec.unless, spec.gather]
        return msgspec.json.encode([*rows, self.seed, self.revision, self.count, self.spares])


def first_spares(count: int) -> int:
    """How many spare rows a list has at first: about a sixteenth, in whole blocks."""
    return _whole_blocks(32 + count // 16)


def more_spares(spares: int) -> int:
    """How many the next longer list has."""
    return _whole_blocks(8 * spares)


def choose(scan: Scan, wanted: Wanted, folder: Path) -> Chosen:
    """Look at all rows, and write the list of those chosen into `folder`. Raises SpecError, and as the pass does."""
    sampling = wanted.spec.sampling
    limit = sampling.scan if isinstance(sampling, (RandomRows, StratifiedRows)) else None
    columns = _columns(wanted.spec)

    def rows() -> Iterator[Scanned]:
        return islice(scan(columns), limit)

    quotas = None if isinstance(sampling, RandomRows) else _quotas(rows(), wanted)
    with Spool(folder) as spool:
        picker = Picker(wanted, quotas, spool)
        for number, row in enumerate(rows()):
            picker.offer(number, row)
        spool.finish()
        main, spares = picker.main(), picker.spares()
        head = Head(
            rows=picker.rows,
            main=len(main),
            spares=len(spares),
            more=picker.eligible > len(main) + len(spares),
            strata=dict(sorted(picker.taken.items())) if quotas is not None else {},
        )
        entries = ((number, spool.read(place)) for number, place in (*main, *spares))
        return Chosen.write(folder, wanted.identity, head, entries)


class Picker:
    """Reservoirs of all strata during the second pass. Without quotas there is one stratum."""

    def __init__(self, wanted: Wanted, quotas: Mapping[str, int] | None, spool: Spool) -> None:
        sampling = wanted.spec.sampling
        self._filter = filter_of(wanted.spec)
        self._by = sampling.by if isinstance(sampling, StratifiedRows) else None
        self._rank = sampling.rank if isinstance(sampling, StratifiedRows) else ()
        self._quotas = {"": wanted.count} if quotas is None else quotas
        self._spares, self._spool = wanted.spares, spool
        self._key = draw_key(wanted)
        self._reservoirs = {
            name: Reservoir(quota + wanted.spares, len(self._rank)) for name, quota in sorted(self._quotas.items())
        }
        self.rows = self.eligible = 0
        """Rows looked at, and those of a stratum that is wanted."""
        self.taken: Counter[str] = Counter()
        """Rows chosen of each stratum."""

    def offer(self, number: int, row: Scanned) -> None:
        """Look at the next row."""
        self.rows += 1
        if row.passed or not self._filter(row.fields):
            return
        stratum = "" if self._by is None else stratum_of(row.fields, self._by)
        reservoir = self._reservoirs.get(stratum)
        if reservoir is None:
            return
        self.eligible += 1
        ranks = tuple([_rank(row.fields, name) for name in self._rank])
        draw = xxhash.xxh3_64_intdigest(number.to_bytes(8, "little"), self._key)
        if reservoir.wants(ranks, draw, number):
            reservoir.add(ranks, draw, number, self._spool.add(row.before))

    def main(self) -> list[Entry]:
        """The rows chosen, in the source's order."""
        self._kept = {name: reservoir.entries() for name, reservoir in self._reservoirs.items()}
        for name, entries in self._kept.items():
            self.taken[name] = min(self._quotas[name], len(entries))
        return sorted(entry for name, entries in self._kept.items() for entry in entries[: self._quotas[name]])

    def spares(self) -> list[Entry]:
        """The next best of each stratum, in turns; in whole blocks where there are so many."""
        left = {name: entries[self._quotas[name] :] for name, entries in self._kept.items()}
        turns = sorted((at, name) for name, entries in left.items() for at in range(len(entries)))
        in_turn = [left[name][at] for at, name in turns[: self._spares]]
        ordered: list[Entry] = []
        size = FIRST_BLOCK
        while len(ordered) < len(in_turn):
            ordered += sorted(in_turn[len(ordered) : len(ordered) + size])
            size *= 2
        return ordered


def draw_key(wanted: Wanted) -> int:
    """The key of the hash: the first 8 bytes, little-endian, of BLAKE3 of the seed and the revision (FORMAT.md)."""
    own = getattr(wanted.spec.sampling, "seed", None)
    seed = wanted.seed if own is None else own
    return int.from_bytes(blake3(f"shardkit sampling {seed} {wanted.revision}".encode()).digest(length=8), "little")


def stratum_of(fields: Mapping[str, Any], column: str) -> str:
    """The stratum of a row: its column's text, or number or truth as JSON writes it; "" without one."""
    value = field(fields, column)
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode() if isinstance(value, (bool, int, float)) else ""


def _quotas(rows: Iterator[Scanned], wanted: Wanted) -> dict[str, int]:
    """The first pass: rows of each stratum, and from them how many each gives."""
    name, sampling, wants = wanted.spec.name, wanted.spec.sampling, filter_of(wanted.spec)
    assert isinstance(sampling, StratifiedRows)
    counts: Counter[str] = Counter()
    for row in rows:
        if not row.passed and wants(row.fields):
            counts[stratum_of(row.fields, sampling.by)] += 1
        if len(counts) > MAX_STRATA:
            raise SpecError(
                f"source {name}: sampling.by {sampling.by} has more than {MAX_STRATA} different values; "
                "name a column of categories"
            )
    counts = Counter(dict(sorted(counts.items())))
    shares = sampling.shares
    if isinstance(shares, dict):
        weights = {name: weight_of(shares.get(name, 0)) for name in counts}
        if not any(weights.values()):
            there = ", ".join(list(counts)[:20])
            raise SpecError(f"source {name}: no row has a value of sampling.shares; {sampling.by} has: {there}")
    else:
        weights = {name: Fraction(count if shares == "proportional" else 1) for name, count in counts.items()}
    given = share_within(wanted.count, weights, counts)
    return {name: given[name] for name, weight in weights.items() if weight}


def filter_of(spec: SourceSpec) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row of these fields is wanted: gathered rows were filtered before."""
    if spec.gather is not None or not (spec.where or spec.unless):
        return lambda fields: True
    return lambda fields: is_wanted(fields, spec)


def _columns(spec: SourceSpec) -> tuple[str, ...]:
    sampling = spec.sampling
    named = [] if spec.gather is not None else [*spec.where, *spec.unless]
    if isinstance(sampling, StratifiedRows):
        named += [sampling.by, *(name.removeprefix("-") for name in sampling.rank)]
    return tuple(dict.fromkeys(named))


def _rank(fields: Mapping[str, Any], name: str) -> float:
    """What sorts the best first: absent values, and what is no number, last."""
    value = field(fields, name.removeprefix("-"))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return math.inf
    try:
        return float(value) if name.startswith("-") else -float(value)
    except OverflowError:
        return math.inf


def _whole_blocks(least: int) -> int:
    """The number of spares in the fewest whole blocks that hold `least`."""
    spares = size = FIRST_BLOCK
    while spares < least:
        size *= 2
        spares += size
    return spares
