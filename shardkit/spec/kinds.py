"""Kinds of sources: where rows come from, as a user writes it.

Here: one struct a kind, and the fields that all have.
Elsewhere: what the structs hold of media (base.py), reading the rows (the room sources).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from shardkit.spec.base import NAME, Codec, MediaOptions, Strict
from shardkit.spec.sampling import AnySampling, FirstRows

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
HUB_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?")


class SourceSpec(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """Fields that every kind of source has.

    `normalizer` names a row of the table in records.normalize, `columns` maps its roles to fields of the row
    (`{question: q, answer: a}`), `options` are further settings of the normaliser. `sample` is how many samples
    `--sample` without a number takes; `limit` bounds a full build; `ratio` is the share of `total`.
    `group` is one of the build's `groups`, in which `ratio` is then the share. `budget_bytes` bounds what the source
    gives in bytes of (uncompressed) tar: it ends with the sample that reaches them. `sampling` says which rows are
    taken where fewer are wanted than there are. `content_warning` says what is harmful in it: such a source is left
    out unless the build asks for it. `each` makes several sources of this one: see spec.expand; load_spec does it.
    `partitions` is how many build lanes the source has: part of the plan, unlike the number of processes.
    `codec` is `tar`, which every WebDataset reader takes, or `tar.zst`, which pays for text.
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
    content_warning: str = ""
    each: dict[str, list[str | int] | dict[str, dict[str, Any]]] = {}
    fallback: AnySource | None = None

    @property
    def text_alone(self) -> bool:
        """Whether its rows never hold media: then no tools of media are part of its lanes' toolchain."""
        return False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"source name {self.name!r}: use lower-case letters, digits, - and _, at most 64")
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"source {self.name}: partitions is {self.partitions}; between 1 and 1024")
        if self.sample < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"source {self.name}: sample and limit must be at least 1")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"source {self.name}: ratio is {self.ratio}; between 0 and 1")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise ValueError(f"source {self.name}: budget_bytes is {self.budget_bytes}; at least 1, or leave it out")
        if self.each:
            raise ValueError(f"source {self.name}: each stands for several sources; load the spec with load_spec")


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

    @property
    def text_alone(self) -> bool:
        """True."""
        return True


class CsvSource(SourceSpec, frozen=True, kw_only=True, tag="csv"):
    """Comma or tab separated values, a record a row, all values text; `path` is a file or a folder.

    `delimiter` is one character; empty: a tab in .tsv, else a comma. `quote` is one, or empty where quotes have no
    meaning. The first record names the columns; `names` give others; without `header` the first record is a row.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.csv", "**/*.csv.gz", "**/*.csv.zst", "**/*.tsv", "**/*.tsv.gz", "**/*.tsv.zst")
    delimiter: str = ""
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    record_bytes: int = 16 << 20

    @property
    def text_alone(self) -> bool:
        """True."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_csv(self.name, self.delimiter, self.quote, self.header, self.names)


class JsonSource(SourceSpec, frozen=True, kw_only=True, tag="json"):
    """JSON files that are one list of objects, or one object whose `key` holds such a list; an object a row."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.json", "**/*.json.gz", "**/*.json.zst")
    key: str = "data"
    item_bytes: int = 16 << 20

    @property
    def text_alone(self) -> bool:
        """True."""
        return True


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

    @property
    def text_alone(self) -> bool:
        """True."""
        return True


class HubSource(SourceSpec, frozen=True, kw_only=True, tag="hub"):
    """A data set of the Hugging Face Hub, streamed: nothing of it is ever on disk as a whole.

    `dataset` is owner/name. `config` and `split` are the Hub's own names and may hold dots and spaces. `revision` is a
    branch, tag or commit, empty for the head of main; the plan pins the commit. `data_files` are globs over the
    repository's paths, read in place of what `config` and `split` mean (where its loader is a program, or a part is
    wanted); `data_dir` is a folder in it to which the usual layout applies.
    `reader`: `files` reads the repository's own parquet, jsonl, json, csv and tar by ranges with exact cursors,
    `datasets` streams through that package, `auto` takes `files` wherever it can.
    `endpoint` is another Hub's address, by default HF_ENDPOINT or huggingface.co; `offline` refuses to ask, as
    HF_HUB_OFFLINE does. The token is HF_TOKEN or what `hf auth login` has left, and goes to the user's own endpoint
    alone. A line, record or item of more than `record_bytes` is refused.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("endpoint", "offline")

    dataset: str
    config: str = ""
    split: str = "train"
    revision: str = ""
    data_files: tuple[str, ...] = ()
    data_dir: str = ""
    reader: Literal["auto", "files", "datasets"] = "auto"
    endpoint: str = ""
    offline: bool = False
    record_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not HUB_ID.fullmatch(self.dataset):
            raise ValueError(f"source {self.name}: dataset is {self.dataset!r}; the Hub's name of it, owner/name")
        if self.endpoint and not HUB_ENDPOINT.fullmatch(self.endpoint):
            raise ValueError(
                f"source {self.name}: endpoint is no address of a Hub; https://host without login or query"
            )
        if not self.split or self.record_bytes < 1:
            raise ValueError(f"source {self.name}: split must be named, and record_bytes be at least 1")
        for path in (*self.data_files, self.data_dir):
            if path.startswith("/") or ".." in path.split("/") or "://" in path:
                raise ValueError(f"source {self.name}: {path!r} is no path within the repository, such as data/*.jsonl")


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


def _check_csv(name: str, delimiter: str, quote: str, header: bool, names: tuple[str, ...]) -> None:
    """Raises ValueError for what no csv file can have."""
    for field, value in (("delimiter", delimiter), ("quote", quote)):
        if len(value) > 1 or not value.isascii() or value in ("\r", "\n", "\0"):
            raise ValueError(f"source {name}: {field} is {value!r}; one ASCII character, or leave it out")
    if delimiter and delimiter == quote:
        raise ValueError(f"source {name}: delimiter and quote are both {quote!r}; they must differ")
    if not header and not names:
        raise ValueError(f"source {name}: without a header the columns need `names`")
    if len(set(names)) != len(names):
        raise ValueError(f"source {name}: names has one twice; columns must differ")


AnySource = FilesSource | JsonlSource | CsvSource | JsonSource | ParquetSource | GitSource | HubSource | GeneratedSource
