"""The table of cases: what is tried on every tool that offers what it needs.

Here: names, needs and trials; running a case on a tool.
Elsewhere: the trials (damage.py, foreign_tars.py, positions.py), what is shown (table.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.conformance import damage, foreign_tars, positions
from tools.conformance.damage import Bench, Trial
from tools.conformance.positions import ALONE, EVEN, Topology
from tools.conformance.process import Tool
from tools.conformance.verdict import NOT_OFFERED, NOT_TRIED, Cell, count

UNEVEN = (list(range(10)), [10], list(range(11, 16)), [16, 17])


class Case(NamedTuple):
    """A row of the table: its name, the features that it needs, and its trials."""

    name: str
    needs: tuple[str, ...]
    trials: Callable[[Tool, Bench], Iterator[Trial]]


CASES = (
    Case("own data cut at every byte", (), damage.cut_at_every_byte),
    Case("own tar of 200 members cut at every member", ("own tars",), damage.cut_at_members),
    Case("own data, every bit flipped", (), damage.flipped_bits),
    Case("own tar without one of its members", ("own tars",), damage.missing_members),
    Case("tar of others cut at every member", ("tars",), foreign_tars.cut_plain_tars),
    Case("tar of others cut at every byte", ("tars",), foreign_tars.cut_plain_tars_anywhere),
    Case("dots in keys", ("tars",), foreign_tars.odd_keys),
    Case("duplicate keys", ("tars",), foreign_tars.duplicate_keys),
    Case("hostile tars", ("tars",), foreign_tars.hostile_tars),
    Case("poisoned cache", ("cache",), damage.poisoned_cache),
    Case("server sends less than it says", ("http",), damage.bad_server("truncate")),
    Case("server sends less and does not say", ("http",), damage.bad_server("unsaid cut")),
    Case("server resets", ("http",), damage.bad_server("reset")),
    Case("server trickles", ("http",), damage.bad_server("trickle")),
    Case("server changes the object", ("http",), damage.bad_server("change")),
    Case("resume at every position, stored order", ("resume",), positions.resume_everywhere(False)),
    Case("resume at every position, shuffled", ("resume",), positions.resume_everywhere(True)),
    Case("the same, 2 ranks x 2 workers", ("resume",), positions.resume_everywhere(True, Topology(2, 2, 2))),
    Case("another world, batch or workers", ("reshape",), positions.reshape),
    Case("resume at every position, mixed", ("mixing",), positions.resume_everywhere(True, ALONE, 2)),
    Case("one epoch over 1 to 3 ranks", ("ranks",), positions.divide(EVEN, (1, 2, 3))),
    Case("uneven shards over 2 to 3 ranks", ("ranks",), positions.divide(UNEVEN, (2, 3))),
    Case("fewer shards than ranks", ("ranks",), positions.divide([list(range(8))], (2, 4))),
    Case("one sample", ("ranks",), positions.divide([[0]], (1,))),
    Case("an empty shard", ("empty shard",), positions.divide([[0, 1, 2], [], [3, 4, 5]], (1, 2))),
)


def run_case(case: Case, tool: Tool, trials: int, seconds: float) -> Cell:
    """A case on a tool, in a folder of its own that is gone afterwards."""
    if not all(tool.offers(need) for need in case.needs):
        untried = any(f"{need}, not tried" in tool.about["offers"] for need in case.needs)
        return NOT_TRIED if untried else NOT_OFFERED
    tool.stop()  # a fresh process: some leak a descriptor with every dataset
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="conformance-", dir=memory if memory.is_dir() else None) as folder:
        try:
            return count(case.trials(tool, Bench(Path(folder), trials, seconds)))
        except AssertionError as error:
            return Cell({"could not run": 1}, {}, str(error))
