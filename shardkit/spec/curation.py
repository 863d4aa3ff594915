"""What is done to a dataset once it is built, as a spec or a command line asks for it.

Here: options of splits, of deduplication and decontamination.
Elsewhere: doing it (the room curate), where a build spec holds them (build.py).
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from shardkit.spec.base import NAME, Strict
from shardkit.spec.kinds import AnySource

SHARES = {"train": 0.95, "val": 0.025, "test": 0.025}
DEFAULT_GROUP = ("provenance.group",)
"""What a source's `columns: {group: …}` fills; many datasets have none."""
Stratum = Literal["source", "category", "modality", "duration"]
HELD_OUT = "held_out"
"""The split of sources that are held out, outside of all shares."""

Compared = Literal["text", "images", "audio"]
EVERYTHING: tuple[Compared, ...] = ("text", "images", "audio")
LEAST_RUN_WORDS, MOST_RUN_WORDS = 5, 64


class SplitOptions(Strict, frozen=True, kw_only=True):
    """How samples are divided: shares that add up to 1, a seed, what is balanced, what stays together.

    `by` are the facts whose every combination is divided in the same shares. Samples with an equal value of one of the
    fields in `group` end on one side, and so do near-duplicates where `near` is set; a field is `source`, `category`,
    `id` or `provenance.NAME`, and a sample without it stands alone. Samples of sources that are held out have the split
    `held_out`, which counts in no share.
    """

    ratios: dict[str, float] = msgspec.field(default_factory=lambda: dict(SHARES))
    seed: int = 0
    by: tuple[Stratum, ...] = ("source", "category", "modality", "duration")
    group: tuple[str, ...] = DEFAULT_GROUP
    near: bool = False

    def __post_init__(self) -> None:
        wrong = [name for name in self.ratios if not NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"split {wrong[0]!r}: use lower-case letters, digits, - and _, at most 64")
        if HELD_OUT in self.ratios:
            raise ValueError(f"ratios has {HELD_OUT}: that split is for sources that are held out, and has no share")
        if not self.ratios or not all(0 < share <= 1 for share in self.ratios.values()):
            raise ValueError(f"ratios are {self.ratios}; every share must lie above 0 and at most at 1")
        if not math.isclose(sum(self.ratios.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"ratios add up to {sum(self.ratios.values()):g}; they must add up to 1")
        known = ("source", "category", "id")
        for name in self.group:
            if name not in known and not (name.startswith("provenance.") and name.removeprefix("provenance.")):
                raise ValueError(f"group field {name!r}; there are: {', '.join(known)}, provenance.NAME")


class BenchmarkSource(Strict, frozen=True, kw_only=True):
    """A benchmark behind a source: `name` is what reports call it, `entry` that of the catalog, where it is one."""

    name: str
    entry: str = ""
    source: AnySource

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("a benchmark's name is empty")


class DedupOptions(Strict, frozen=True, kw_only=True):
    """Which samples are left out for what others say, or a benchmark asks.

    `compare`: two samples are near-duplicates where each of these is near in both, or is in neither. `threshold`: the
    least Jaccard similarity of near texts. `against`: benchmarks of whose rows no sample may hold a run of `run_words`
    words: datasets, files or folders of JSON lines, entries of the catalog (NAME or NAME:VARIANT), `benchmarks` (all
    that are available in it), or sources with a name. One that cannot be reached is an error, or, with
    `skip_unreachable`, told and recorded.
    """

    compare: tuple[Compared, ...] = EVERYTHING
    threshold: float = 0.8
    against: tuple[str | BenchmarkSource, ...] = ()
    run_words: int = 13
    skip_unreachable: bool = False

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; wanted 0.5 to 1: texts that share less are no copies")
        if not LEAST_RUN_WORDS <= self.run_words <= MOST_RUN_WORDS:
            raise ValueError(f"run_words is {self.run_words}; wanted {LEAST_RUN_WORDS} to {MOST_RUN_WORDS}")
        if not self.compare and not self.against:
            raise ValueError("nothing to do: compare something, or name a benchmark to look for")
