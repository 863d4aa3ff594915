"""What all kinds of sources have, as a user writes it.

Here: the fields that all have.
Elsewhere: the kinds (local.py, remote.py), all of them together (kinds.py), what the structs hold of media (base.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from shardkit.spec.base import NAME, Codec, MediaOptions, Strict
from shardkit.spec.gather import Gather, Scalar
from shardkit.spec.rules import Rules
from shardkit.spec.sampling import AnySampling, FirstRows

if TYPE_CHECKING:
    from shardkit.spec.kinds import AnySource


class SourceSpec(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """Fields that every kind of source has.

    `normalizer` names a row of the table in records.normalize, `columns` maps its roles to fields of the row
    (`{question: q, answer: a}`; with any normaliser also `id`, `category`, `licence`, and `group`: what a split keeps
    on one side, as a film or a speaker), `options` are further settings of the normaliser. `sample` is how many samples
    `--sample` without a number takes; `limit` bounds a full build; `ratio` is the share of `total`.
    `group` is one of the build's `groups`, in which `ratio` is then the share. `budget_bytes` bounds what the source
    gives in bytes of (uncompressed) tar: it ends with the sample that reaches them. `sampling` says which rows are
    taken where fewer are wanted than there are. `content_warning` says what is harmful in it: such a source is left
    out unless the build asks for it. `each` makes several sources of this one: see spec.expand; load_spec does it.
    `partitions` is how many build lanes the source has: part of the plan, unlike the number of processes.
    `codec` is `tar`, which every WebDataset reader takes, or `tar.zst`, which pays for text.
    `rules` are what samples must be like besides being whole; a build's own rules where a source has none.
    `where` keeps the rows with these values in these columns, `unless` those without; others are passed over.
    `gather` makes one row of several that belong together; it needs one partition.
    `held_out` says that no model is trained on it: splits keep its samples apart, whatever their shares. Entries of the
    catalog say it of the splits that judge models, and a fallback is held out where what it stands for is.
    `fallback` is used in place of this source where its tool is not installed or where it cannot be had from here (no
    permission, no credentials, gone, offline); the plan says so.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ()
    """Fields that say where the bytes are, not what they are: not part of the plan's digest."""

    name: str
    normalizer: str
    columns: dict[str, str] = {}
    options: dict[str, str | int | float | bool] = {}
    domain: str = ""
    category: str = ""
    licence: str = ""
    media_type: str = ""
    language: str = ""
    sample: int = 25
    limit: int | None = None
    ratio: float | None = None
    group: str = ""
    budget_bytes: int | None = None
    sampling: AnySampling = FirstRows()
    partitions: int = 1
    codec: Codec = "tar"
    media: MediaOptions = MediaOptions()
    rules: Rules | None = None
    content_warning: str = ""
    each: dict[str, list[str | int] | dict[str, dict[str, Any]]] = {}
    where: dict[str, Scalar | tuple[Scalar, ...]] = {}
    unless: dict[str, Scalar | tuple[Scalar, ...]] = {}
    gather: Gather | None = None
    held_out: bool = False
    fallback: AnySource | None = None

    @property
    def text_alone(self) -> bool:
        """Whether its rows never hold media: then no tools of media are part of its lanes' toolchain."""
        return False

    @property
    def joined_columns(self) -> tuple[str, ...]:
        """Columns that say where a row's media lie, read besides those of the normaliser."""
        return ()

    @property
    def waits(self) -> bool:
        """Whether reading its rows may take a while of which others can make use: of a network, a program, pictures."""
        return True

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"source name {self.name!r}: use lower-case letters, digits, - and _, at most 64")
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"source {self.name}: partitions is {self.partitions}; between 1 and 1024")
        if self.gather is not None and self.partitions != 1:
            raise ValueError(
                f"source {self.name}: partitions is {self.partitions}; with gather it must be 1, "
                "since rows that belong together come one after the other in one lane"
            )
        if self.sample < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"source {self.name}: sample and limit must be at least 1")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"source {self.name}: ratio is {self.ratio}; between 0 and 1")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ValueError(f"source {self.name}: budget_bytes is {self.budget_bytes}; at least 1, or leave it out")
        if self.each:
            raise ValueError(f"source {self.name}: each stands for several sources; load the spec with load_spec")
        if self.held_out and self.fallback is not None and not self.fallback.held_out:
            msgspec.structs.force_setattr(self, "fallback", msgspec.structs.replace(self.fallback, held_out=True))
