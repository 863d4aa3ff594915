"""What is done to a dataset once it is built, as a spec or a command line asks for it.

Here: options of splits.
Elsewhere: doing it (the room curate), where a build spec holds them (build.py).
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from shardkit.spec.base import NAME, Strict

SHARES = {"train": 0.95, "val": 0.025, "test": 0.025}
DEFAULT_GROUP = ("provenance.group",)
"""What a source's `columns: {group: …}` fills; many datasets have none."""
Stratum = Literal["source", "category", "modality", "duration"]


class SplitOptions(Strict, frozen=True, kw_only=True):
    """How samples are divided: shares that add up to 1, a seed, what is balanced, what stays together.

    `by` are the facts whose every combination is divided in the same shares. Samples with an equal value of one of the
    fields in `group` end on one side, and so do near-duplicates where `near` is set; a field is `source`, `category`,
    `id` or `provenance.NAME`, and a sample without it stands alone.
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
        if not self.ratios or not all(0 < share <= 1 for share in self.ratios.values()):
            raise ValueError(f"ratios are {self.ratios}; every share must lie above 0 and at most at 1")
        if not math.isclose(sum(self.ratios.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"ratios add up to {sum(self.ratios.values()):g}; they must add up to 1")
        known = ("source", "category", "id")
        for name in self.group:
            if name not in known and not (name.startswith("provenance.") and name.removeprefix("provenance.")):
                raise ValueError(f"group field {name!r}; there are: {', '.join(known)}, provenance.NAME")
