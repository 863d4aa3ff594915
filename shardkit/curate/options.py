"""What a search for duplicates compares, and when two samples count as near.

Here: the options and their bounds.
Elsewhere: the search (dedup.py), the command's options (cli).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shardkit.curate.words import MOST_IN_A_RUN
from shardkit.errors import SpecError

Compared = Literal["text", "images", "audio"]
EVERYTHING: tuple[Compared, ...] = ("text", "images", "audio")


class DedupOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`compare`: two samples are near-duplicates where each of these is near in both, or is in neither.

    `threshold`: the least Jaccard similarity of near texts. `against`: benchmarks (datasets, or files of JSON lines)
    whose rows no sample may hold a run of `run_words` words of. Raises SpecError for values out of their bounds.
    """

    compare: tuple[Compared, ...] = EVERYTHING
    threshold: float = 0.8
    against: tuple[str, ...] = ()
    run_words: int = 13

    def __post_init__(self) -> None:
        """Check bounds."""
        if not 0.5 <= self.threshold <= 1:
            raise SpecError(f"threshold is {self.threshold}; wanted 0.5 to 1: texts that share less are no copies")
        if not 5 <= self.run_words <= MOST_IN_A_RUN:
            raise SpecError(f"run_words is {self.run_words}; wanted 5 to {MOST_IN_A_RUN}")
        if unknown := set(self.compare) - set(EVERYTHING):
            raise SpecError(f"cannot compare {', '.join(sorted(unknown))}; there are {', '.join(EVERYTHING)}")
        if not self.compare and not self.against:
            raise SpecError("nothing to do: compare something, or name a benchmark to look for")
