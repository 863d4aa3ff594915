"""Kinds of sources on this machine: files of every format, repositories, shards, generators.

Here: one struct a kind.
Elsewhere: what all kinds have (source.py), kinds behind a server (remote.py), reading the rows (the room sources).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from shardkit.spec.source import SourceSpec


class FilesSource(SourceSpec, frozen=True, kw_only=True, tag="files"):
    """A folder: one row a file, in sorted order of relative paths.

    `path` is a folder or a file, or `python:stdlib`, the running Python's own library. Patterns are globs over
    relative paths with `/` (`**` for any depth). The file's bytes are the row's blob; text files become
    `fields["text"]`, besides `path`, `name` and the topmost `folder`. Sizes in bytes.

    With `sidecars` the rows are media alone, each with what lies beside it under the same stem: `x.jpg` with `x.txt`,
    `.caption`, `.srt` (its words) as `text`, and `x.json` as further fields; `required` refuses media without,
    `optional` does not: the normaliser `sidecar` leaves them unlabelled. `category_from_folder` gives the name of the
    file's folder as the field `category`.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    min_bytes: int = 1
    max_bytes: int | None = None
    sidecars: Literal["", "required", "optional"] = ""
    category_from_folder: bool = False


class LocalText(SourceSpec, frozen=True, kw_only=True):
    """What kinds have in common whose rows are text in files of this machine."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str

    @property
    def text_alone(self) -> bool:
        """True."""
        return True

    @property
    def waits(self) -> bool:
        """False: lines of a local file."""
        return False


class JsonlSource(LocalText, frozen=True, kw_only=True, tag="jsonl"):
    """JSON objects, one a line; `path` is a file or a folder of .jsonl, .jsonl.gz, .jsonl.zst (or .ndjson)."""

    include: tuple[str, ...] = ("**/*.jsonl", "**/*.jsonl.gz", "**/*.jsonl.zst", "**/*.ndjson")
    line_bytes: int = 16 << 20


class CsvSource(LocalText, frozen=True, kw_only=True, tag="csv"):
    """Comma or tab separated values, a record a row, all values text; `path` is a file or a folder.

    `delimiter` is one character; empty: a tab in .tsv, else a comma. `quote` is one, or empty where quotes have no
    meaning. The first record names the columns; `names` give others; without `header` the first record is a row.
    """

    include: tuple[str, ...] = ("**/*.csv", "**/*.csv.gz", "**/*.csv.zst", "**/*.tsv", "**/*.tsv.gz", "**/*.tsv.zst")
    delimiter: str = ""
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    record_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_csv(self.name, self.delimiter, self.quote, self.header, self.names)


class JsonSource(LocalText, frozen=True, kw_only=True, tag="json"):
    """JSON files that are one list of objects, or one object whose `key` holds such a list; an object a row."""

    include: tuple[str, ...] = ("**/*.json", "**/*.json.gz", "**/*.json.zst")
    key: str = "data"
    item_bytes: int = 16 << 20


class PlainSource(JsonlSource, frozen=True, kw_only=True, tag="plain"):
    """JSON lines as `jsonl`, whose rows name files of media beside them: `modalities` with paths, or lists of paths."""

    @property
    def text_alone(self) -> bool:
        """False."""
        return False

    @property
    def waits(self) -> bool:
        """True: it may name pictures and sounds."""
        return True


class ParquetSource(SourceSpec, frozen=True, kw_only=True, tag="parquet"):
    """Parquet files, a row a row; columns of structs {bytes, path} are media."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.parquet",)


class GitSource(SourceSpec, frozen=True, kw_only=True, tag="git"):
    """The text files of one commit of a git repository: a URL, a local clone or a bundle file.

    `revision` is a branch, tag or commit; the plan pins the commit. Filters as in `files`; lengths in characters.
    Binary, generated and vendored files are never taken; `sampling` takes so many by chance.
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


class ShardsSource(SourceSpec, frozen=True, kw_only=True, tag="shards"):
    """Shards that exist: a dataset of ours (`dataset`, a folder or URL, at `version` or the current one), or tars of
    anybody: local (`path`, a folder or file) or at `urls`, with braces.

    A sample is a row. Of a dataset, the normaliser `sample` passes it on as it is, and says in its provenance where it
    came from first. Of tars, a member `NAME.json` gives its fields, texts are fields and other members blobs, each
    under its extension: `columns: {image: jpg, text: txt}`; `jpg;png` is whichever there is.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("dataset", "version", "path", "urls")

    dataset: str = ""
    version: str = ""
    path: str = ""
    include: tuple[str, ...] = ("**/*.tar", "**/*.tar.gz", "**/*.tgz", "**/*.tar.zst")
    urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.dataset) + bool(self.path) + bool(self.urls) != 1:
            raise ValueError(f"source {self.name}: give one of `dataset`, `path` and `urls`")
        if self.version and not self.dataset:
            raise ValueError(f"source {self.name}: `version` is of a `dataset`; tars have none")


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


def check_csv(name: str, delimiter: str, quote: str, header: bool, names: tuple[str, ...]) -> None:
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
