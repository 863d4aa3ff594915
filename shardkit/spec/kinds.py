"""Kinds of sources: where rows come from, as a user writes it.

Here: one struct a kind, and the fields that all have.
Elsewhere: what the structs hold of media (base.py), reading the rows (the room sources).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from shardkit.spec.base import NAME, Codec, MediaOptions, Strict
from shardkit.spec.gather import Gather, Scalar
from shardkit.spec.rules import Rules
from shardkit.spec.sampling import AnySampling, FirstRows

Format = Literal["", "jsonl", "csv", "json", "parquet", "media"]
FORMATS: dict[str, Format] = {
    "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "csv", "json": "json", "parquet": "parquet",
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"), "media"),
    **dict.fromkeys(("wav", "flac", "ogg", "oga", "opus", "mp3", "m4a", "aac"), "media"),
    **dict.fromkeys(("mp4", "m4v", "mov", "mkv", "webm", "avi"), "media"),
}  # fmt: skip
"""Formats by the ending of a file's name."""

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
HUB_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?")


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


class FilesSource(SourceSpec, frozen=True, kw_only=True, tag="files"):
    """A folder: one row a file, in sorted order of relative paths.

    `path` is a folder or a file, or `python:stdlib`, the running Python's own library. Patterns are globs over
    relative paths with `/` (`**` for any depth). The file's bytes are the row's blob; text files become
    `fields["text"]`, besides `path`, `name` and the topmost `folder`. Sizes in bytes.
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


class PlainSource(JsonlSource, frozen=True, kw_only=True, tag="plain"):
    """JSON lines as `jsonl`, whose rows name files of media beside them: `modalities` with paths, or lists of paths."""

    @property
    def text_alone(self) -> bool:
        """False."""
        return False


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


class RemoteSource(SourceSpec, frozen=True, kw_only=True):
    """Fields of kinds whose files lie behind a server, in one of the formats that local files have.

    `format` is told by the files' names unless it is given; the other fields are those of the kinds of that name:
    `delimiter`, `quote`, `header` and `names` of csv, `key` of json. `row_bytes` bounds a line, record or item.
    """

    format: Format = ""
    delimiter: str = ""
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    key: str = "data"
    row_bytes: int = 16 << 20

    @property
    def text_alone(self) -> bool:
        """Whether the format holds no media."""
        return self.known_format in ("jsonl", "csv", "json")

    @property
    def known_format(self) -> Format:
        """The format, as far as the spec tells it."""
        return self.format

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_csv(self.name, self.delimiter, self.quote, self.header, self.names)


class HttpSource(RemoteSource, frozen=True, kw_only=True, tag="http"):
    """Files at URLs (http and https; also s3, gs, az, hf), read by ranges, never downloaded whole.

    `urls` may have braces (`https://host/part-{000..127}.jsonl`). `list` is a text file with a URL a line, `#` begins
    a remark; URLs in it are data: they must not lead into private networks unless `allow_private`. `digests` are
    SHA-256 in hex by URL, checked by reading the file once when it is planned. A file is pinned by its length and
    its ETag or Last-Modified.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("urls", "list", "allow_private", "digests")

    urls: tuple[str, ...] = ()
    list: str = ""
    allow_private: bool = False
    digests: dict[str, str] = {}

    @property
    def known_format(self) -> Format:
        """As given, else by the name of the first URL."""
        return self.format or (format_of(self.urls[0]) if self.urls else "")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.urls and not self.list:
            raise ValueError(f"source {self.name}: give `urls`, or the `list` of a text file with URLs")
        for digest in self.digests.values():
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"source {self.name}: digests has {digest[:80]!r}; wanted a SHA-256 in 64 hex digits")


class KaggleSource(RemoteSource, frozen=True, kw_only=True, tag="kaggle"):
    """One file of a Kaggle dataset, read by ranges; a zip that Kaggle puts around it is unpacked on the way.

    `dataset` is owner/name, `version` a number (0: the newest, which the plan pins). Credentials are read from
    KAGGLE_API_TOKEN, KAGGLE_USERNAME with KAGGLE_KEY, or kaggle.json. Where it cannot be had, `fallback` is taken.
    """

    dataset: str
    file: str
    version: int = 0

    @property
    def known_format(self) -> Format:
        """As given, else by the name of the file."""
        return self.format or format_of(self.file.removesuffix(".zip"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w-]+/[\w-]+", self.dataset, re.ASCII):
            raise ValueError(f"source {self.name}: dataset is {self.dataset!r}; wanted owner/name as in its address")
        if self.version < 0:
            raise ValueError(f"source {self.name}: version is {self.version}; a number from 1 on, or 0 for the newest")
        if self.known_format in ("", "media"):
            raise ValueError(f"source {self.name}: {self.file!r} tells no format of rows; give `format`")


def format_of(path: str) -> Format:
    """The format that a path's or URL's ending tells; empty where it tells none."""
    path = re.split(r"[?#]", path, maxsplit=1)[0].lower().removesuffix(".gz").removesuffix(".zst")
    return FORMATS.get(path.rpartition("/")[2].rpartition(".")[2], "")


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


AnySource = (
    FilesSource
    | JsonlSource
    | PlainSource
    | CsvSource
    | JsonSource
    | ParquetSource
    | HttpSource
    | KaggleSource
    | GitSource
    | HubSource
    | GeneratedSource
)
