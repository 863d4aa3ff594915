"""The build spec: the whole of what a user writes in YAML.

Here: the struct.
Elsewhere: its sources (kinds.py), loading it with variables and `--set` (loading.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shardkit.spec.base import NAME, Limits, Strict
from shardkit.spec.curation import SplitOptions
from shardkit.spec.kinds import AnySource
from shardkit.spec.rules import Rules


class BuildSpec(Strict, frozen=True, kw_only=True):
    """One build: sources in the order in which their lanes are listed, and what bounds them.

    `variables` are placeholders for `${name}` in any text of the spec; one without a value must be given by `--set`.
    `total` with the sources' ratios turns into quotas. `duplicates`: `omit` leaves out a sample whose key came
    earlier in the dataset, `keep` keeps those of other shards. `split` divides the complete dataset into splits.
    `rules` hold for every source that has none of its own.
    """

    name: str
    description: str = ""
    seed: int = 0
    variables: dict[str, str | None] = {}
    total: int | None = None
    duplicates: Literal["omit", "keep"] = "omit"
    limits: Limits = Limits()
    split: SplitOptions | None = None
    rules: Rules | None = None
    sources: tuple[AnySource, ...]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: use lower-case letters, digits, - and _, at most 64")
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ValueError("sources is empty; a build needs at least one source")
        if twice:
            raise ValueError(f"source names must differ; given twice: {', '.join(twice)}")
        if self.total is not None and self.total < 1:
            raise ValueError(f"total is {self.total}; it must be at least 1")
        if self.total is not None and any(source.ratio is None for source in self.sources):
            raise ValueError("total is given: every source needs a ratio")
        if self.rules is not None:
            ruled = tuple(_ruled(source, self.rules) for source in self.sources)
            msgspec.structs.force_setattr(self, "sources", ruled)


def _ruled(source: AnySource, rules: Rules) -> AnySource:
    """A source, and its fallbacks, with the build's rules where it has none."""
    fallback = None if source.fallback is None else _ruled(source.fallback, rules)
    return msgspec.structs.replace(source, rules=source.rules or rules, fallback=fallback)
