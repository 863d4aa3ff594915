"""An entry of the catalog: the facts of one dataset, benchmark or repository, and how it is read.

Here: the struct and what must hold within one entry.
Elsewhere: where entries lie (folder.py), the source that an entry makes (resolve.py).
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from shardkit.spec.base import NAME, Strict
from shardkit.spec.licences import LicenceClass

Group = Literal["text", "preference", "chat", "vision", "audio", "video", "benchmark", "repository"]
State = Literal["available", "gated", "gone", "metadata-only"]
Fact = Literal[
    "id", "former_ids", "configs", "splits", "rows", "columns", "files", "language", "normalizer", "licence", "gated",
    "state", "kaggle",
]  # fmt: skip
"""What a mark may doubt: a field of the entry, or within `configs` the splits and their rows."""

GROUPS: tuple[Group, ...] = get_args(Group)
STATES: tuple[State, ...] = get_args(State)
PRIORITIES: dict[int, str] = {
    0: "a benchmark that is held out, and that training data is compared with",
    1: "part of a mix of ours at full scale",
    2: "useful besides",
    3: "large, noisy, or under a condition that not everybody can accept",
    4: "superseded by another entry, or not to be read as it stands",
}
"""Priorities: what is to be had first."""

READABLE: tuple[State, ...] = ("available", "gated")
MOST_CHARACTERS = 1000
"""Of a column's type: far more than any, far less than what nests too deep to be read."""
_TYPE = re.compile(r"string|int|float|bool|binary|image|audio|video|class|date|struct(<\w+(,\w+)*>)?|list<(?P<of>.+)>")
_KAGGLE = re.compile(r"[\w-]+/[\w.-]+")


class Entry(Strict, frozen=True, kw_only=True):
    """What is known of one dataset, and how a build reads it.

    `id` is its name at its host (a repository of the Hub, of GitHub), `former_ids` those that lead there still,
    `revision` pins a commit. `configs` maps configs to splits to rows (none: not known; `rounded_rows`: to a few
    digits). `columns` maps columns to types: string, int, float, bool, binary, image, audio, video, class, date,
    struct<name,…>, list<type>. `source` is a source of a build spec without `name`, `licence`, `limit`; `variants`
    are other readings: fields that replace the source's. `sample_size` is how many samples a full build takes (none:
    all), `budget_bytes` what they may take on disk. A `content_warning` keeps it out of builds that do
    not ask for it. `held_out` names splits that are for judging models, never for
    training them. `unverified` lists facts believed but not seen in print, `doubtful` those to be checked first.
    `licence_class` is the stricter
    one where its own statements disagree. `overlaps` names entries with the same rows.
    """

    name: str
    title: str
    group: Group
    id: str
    former_ids: tuple[str, ...] = ()
    revision: str = ""
    configs: dict[str, dict[str, int | None]] = {}
    rounded_rows: bool = False
    columns: dict[str, str] = {}
    main_language: str = ""
    source: dict[str, Any] | None = None
    variants: dict[str, dict[str, Any]] = {}
    modalities: dict[Literal["image", "audio", "video"], tuple[str, ...]] = {}
    priority: int
    sample_size: int | None = None
    budget_bytes: int | None = None
    licence: str
    licence_class: LicenceClass
    licence_note: str = ""
    gated: bool = False
    state: State = "available"
    reason: str = ""
    replacement: str = ""
    kaggle: str = ""
    content_warning: str = ""
    held_out: tuple[str, ...] = ()
    unverified: tuple[Fact, ...] = ()
    doubtful: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.variants):
            if not NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: use lower-case letters, digits, - and _, at most 64")
        if self.priority not in PRIORITIES:
            raise ValueError(f"priority is {self.priority}; wanted 0 to {max(PRIORITIES)}")
        for field in ("sample_size", "budget_bytes"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} is {value}; wanted at least 1, or leave it out")
        if self.kaggle and not _KAGGLE.fullmatch(self.kaggle):
            raise ValueError(f"kaggle is {self.kaggle!r}; wanted OWNER/DATASET")
        self._check_state()
        self._check_facts()

    @property
    def kind(self) -> str:
        """The kind of source that it is read by; empty where it cannot be read."""
        return str((self.source or {}).get("kind", ""))

    @property
    def is_readable(self) -> bool:
        """Whether a build can be made of it, be it with permission."""
        return self.state in READABLE

    @property
    def url(self) -> str:
        """The page on which a person reads about it; empty where it has none."""
        hosts = {"hub": "https://huggingface.co/datasets/", "git": "https://github.com/"}
        if self.group == "repository":
            return hosts["git"] + self.id
        if self.kaggle and self.id == self.kaggle:
            return f"https://www.kaggle.com/datasets/{self.kaggle}"
        return hosts.get(self.kind or "hub", "") + self.id if "/" in self.id else ""

    def rows_of(self, config: str, split: str) -> int | None:
        """Rows of a split, where they are known; of the only config where none is named."""
        splits = self.configs.get(config or "default")
        if splits is None and not config and len(self.configs) == 1:
            splits = next(iter(self.configs.values()))
        return (splits or {}).get(split)

    def _check_state(self) -> None:
        if self.is_readable != (self.source is not None):
            raise ValueError(f"state is {self.state}: {'give' if self.is_readable else 'leave out'} `source`")
        if self.variants and self.source is None:
            raise ValueError("variants are given without a `source` that they vary")
        if self.state != "available" and not self.reason:
            raise ValueError(f"state is {self.state}: say why in `reason`")
        if self.state == "gated" and not self.gated:
            raise ValueError("state is gated: `gated` must be true")

    def _check_facts(self) -> None:
        twice = set(self.unverified) & set(self.doubtful)
        if twice:
            raise ValueError(f"both unverified and doubtful: {', '.join(sorted(twice))}; doubtful says the more")
        for name, kind in self.columns.items():
            if not is_type(kind):
                raise ValueError(f"columns: {name} is of type {kind!r}; wanted one such as string, int, list<string>")
        splits = {split for config in self.configs.values() for split in config}
        unknown = sorted(set(self.held_out) - splits)
        if unknown:
            raise ValueError(f"held_out names splits that no config has: {', '.join(unknown)}")


def is_type(kind: str) -> bool:
    """Whether a text is a type of a column."""
    match = _TYPE.fullmatch(kind) if len(kind) <= MOST_CHARACTERS else None
    return match is not None and (match["of"] is None or is_type(match["of"]))
