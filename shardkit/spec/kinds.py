"""Kinds of sources: where rows come from, as a user writes it.

Here: one struct a kind, and the fields that all have.
Elsewhere: what the structs hold of media (base.py), reading the rows (the room sources).
"""

from __future__ import annotations

from typing import ClassVar

from shardkit.spec.base import NAME, Codec, MediaOptions, Strict
from shardkit.spec.gather import Gather, Scalar
from shardkit.spec.rules import Rules


class SourceSpec(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """Fields that every kind of source has.

    `normalizer` names a row of the table in records.normalize, `columns` maps its roles to fields of the row
    (`{question: q, answer: a}`), `options` are further settings of the normaliser. `sample` is how many samples
    `--sample` without a number takes; `limit` bounds a full build; `ratio` is the share of `total`.
    `partitions` is how many build lanes the source has: part of the plan, unlike the number of processes.
    `codec` is `tar`, which every WebDataset reader takes, or `tar.zst`, which pays for text.
    `rules` are what samples must be like besides being whole; a build's own rules where a source has none.
    `where` keeps the rows with these values in these columns, `unless` those without; others are passed over.
    `gather` makes one row of several that belong together; it needs one partition.
    `fallback` is used in place of this source where this one's tool is not installed; the plan says so.
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
    partitions: int = 1
    codec: Codec = "tar"
    media: MediaOptions = MediaOptions()
    rules: Rules | None = None
    where: dict[str, Scalar | tuple[Scalar, ...]] = {}
    unless: dict[str, Scalar | tuple[Scalar, ...]] = {}
    gather: Gather | None = None
    fallback: AnySource | None = None

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


class FilesSource(SourceSpec, frozen=True, kw_only=True, tag="files"):
    """A folder: one row a file, in sorted order of relative paths.

    `path` is a folder or a file, or `python:stdlib`, the running Python's own library. Patterns are globs over
    relative paths with `/` (`**` for any depth). The file's bytes are the row's blob; text files become
    `fields["text"]`. Sizes in bytes.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    min_bytes: int = 1
    max_bytes: int | None = None


class JsonlSource(SourceSpec, frozen=True, kw_only=True, tag="jsonl"):
    """JSON objects, one a line; `path` is a file or a folder of .jsonl, .jsonl.gz, .jsonl.zst (or .ndjson)."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.jsonl", "**/*.jsonl.gz", "**/*.jsonl.zst", "**/*.ndjson")
    line_bytes: int = 16 << 20


class ParquetSource(SourceSpec, frozen=True, kw_only=True, tag="parquet"):
    """Parquet files, a row a row; columns of structs {bytes, path} are media."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.parquet",)


class GitSource(SourceSpec, frozen=True, kw_only=True, tag="git"):
    """The text files of one commit of a git repository: a URL, a local clone or a bundle file.

    `revision` is a branch, tag or commit; the plan pins the commit. Filters as in `files`; lengths in characters.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("url",)

    url: str
    revision: str = ""
    extensions: tuple[str, ...] = (
        "py", "js", "ts", "jsx", "tsx", "dart", "swift", "kt", "yaml", "yml", "json", "md", "dockerfile", "tf",
    )  # fmt: skip
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    min_characters: int = 50
    max_characters: int = 100_000


class GeneratedSource(SourceSpec, frozen=True, kw_only=True, tag="generated"):
    """Rows made by a generator of the table in synth: row i is a pure function of (seed, generator, i)."""

    generator: str
    count: int
    seed: int | None = None
    parameters: dict[str, str | int | float | bool] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise ValueError(f"source {self.name}: count is {self.count}; at least 1")


AnySource = FilesSource | JsonlSource | ParquetSource | GitSource | GeneratedSource
