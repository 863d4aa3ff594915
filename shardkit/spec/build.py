"""The build spec: the whole of what a user writes in YAML.

Here: the struct.
Elsewhere: its sources (kinds.py), loading it with variables and `--set` (loading.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shardkit.spec.base import NAME, Limits, Strict
from shardkit.spec.curation import DedupOptions, SplitOptions
from shardkit.spec.kinds import AnySource
from shardkit.spec.rules import Rules


class BuildSpec(Strict, frozen=True, kw_only=True):
    """One build: sources in the order in which their lanes are listed, and what bounds them.

    `variables` are placeholders for `${name}` in any text of the spec; one without a value must be given by `--set`.
    `total` with the sources' ratios turns into quotas, `budget_bytes` into bytes of tar that each source may give; of
    sources without ratios all get the same. `groups` give ratios to groups of sources: those of the sources are shares
    of their group then. Shares are of the sources that are there: those with a `content_warning` are only with
    `content_warnings`. With `borrow` the others make up for what a source lacks of its quota. `duplicates`: `omit`
    leaves out a sample whose key came earlier in the dataset, `keep` keeps those of other shards. `dedup` then leaves
    near-duplicates and rows of benchmarks out of the complete dataset, and `split` divides it into splits.
    `rules` hold for every source that has none of its own.
    """

    name: str
    description: str = ""
    seed: int = 0
    variables: dict[str, str | None] = {}
    total: int | None = None
    budget_bytes: int | None = None
    groups: dict[str, float] = {}
    borrow: bool = False
    content_warnings: bool = False
    duplicates: Literal["omit", "keep"] = "omit"
    limits: Limits = Limits()
    dedup: DedupOptions | None = None
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
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ValueError(f"budget_bytes is {self.budget_bytes}; it must be at least 1")
        self._check_groups()
        if self.rules is not None:
            ruled = tuple(_ruled(source, self.rules) for source in self.sources)
            msgspec.structs.force_setattr(self, "sources", ruled)

    def _check_groups(self) -> None:
        for name, ratio in self.groups.items():
            if not 0 < ratio <= 1:
                raise ValueError(f"groups: the ratio of {name} is {ratio}; between 0 and 1")
        for source in self.sources:
            if source.group not in self.groups and (source.group or self.groups):
                known = ", ".join(self.groups) or "none; give them with their ratios under `groups`"
                raise ValueError(f"source {source.name}: group is {source.group!r}; there are: {known}")
        for name in self.groups or ("",):
            own = [source.ratio is None for source in self.sources if source.group == name]
            if any(own) and not all(own):
                where = f" of group {name}" if name else ""
                raise ValueError(f"some sources{where} have a ratio, others none: every source needs one, or none has")


def _ruled(source: AnySource, rules: Rules) -> AnySource:
    """A source, and its fallbacks, with the build's rules where it has none."""
    fallback = None if source.fallback is None else _ruled(source.fallback, rules)
    return msgspec.structs.replace(source, rules=source.rules or rules, fallback=fallback)
