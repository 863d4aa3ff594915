"""Kinds of sources behind a server: files at URLs, Kaggle, the Hugging Face Hub, issues of GitHub.

Here: one struct a kind.
Elsewhere: what all kinds have (source.py), kinds on this machine (local.py), reading the rows (the room sources).
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from shardkit.spec.archives import Archive
from shardkit.spec.local import check_csv
from shardkit.spec.sampling import FirstRows
from shardkit.spec.source import SourceSpec

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
        check_csv(self.name, self.delimiter, self.quote, self.header, self.names)


class HttpSource(RemoteSource, frozen=True, kw_only=True, tag="http"):
    """Files at URLs (http and https; also s3, gs, az, hf), read by ranges, never downloaded whole.

    `urls` may have braces (`https://host/part-{000..127}.jsonl`). `list` is a text file with a URL a line, `#` begins
    a remark; URLs in it are data: they must not lead into private networks unless `allow_private`. `digests` are
    SHA-256 in hex by URL, checked by reading the file once when it is planned. A file is pinned by its length and
    its ETag or Last-Modified. Media that cannot be had then become refused rows, files of rows a refused plan.
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


class HubSource(SourceSpec, frozen=True, kw_only=True, tag="hub"):
    """A data set of the Hugging Face Hub, streamed: nothing of it is ever on disk as a whole.

    `dataset` is owner/name. `config` and `split` are the Hub's own names and may hold dots and spaces. `revision` is a
    branch, tag or commit, empty for the head of main; the plan pins the commit. `data_files` are globs over the
    repository's paths, read in place of what `config` and `split` mean (where its loader is a program, or a part is
    wanted); `data_dir` is a folder in it to which the usual layout applies.
    `reader`: `files` reads the repository's own parquet, jsonl, json, csv and tar by ranges with exact cursors,
    `datasets` streams through that package, `auto` takes `files` wherever it can. `stems` makes a row of the files of
    one name (`7.png`, `7.html`) among `data_files`, or among the members of zip files, as WebDataset does of a tar's.
    `archives` are those with the media of a column that the rows only name: see Archive. Rows of tars come in the
    order of the tars. `quote` is that of csv and tsv, empty where quotes are plain characters.
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
    reader: Literal["auto", "files", "datasets", "stems"] = "auto"
    archives: dict[str, Archive] = {}
    quote: str = '"'
    endpoint: str = ""
    offline: bool = False
    record_bytes: int = 16 << 20

    @property
    def joined_columns(self) -> tuple[str, ...]:
        """See SourceSpec."""
        return tuple(archive.key or column for column, archive in self.archives.items())

    def __post_init__(self) -> None:
        super().__post_init__()
        check_csv(self.name, "", self.quote, True, ())
        self._check_archives()
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

    def _check_archives(self) -> None:
        """Tars give their members in one order: rows come in it, in one lane, and none can be chosen beforehand."""
        if self.reader == "stems" and not self.data_files:
            raise ValueError(f"source {self.name}: reader stems needs `data_files`, such as ['*.png', '*.html']")
        if self.archives and self.reader in ("stems", "datasets"):
            raise ValueError(f"source {self.name}: archives are joined by reader files, found {self.reader}")
        if all(archive.is_zip for archive in self.archives.values()):
            return
        ordered = {"archives": len(self.archives), "partitions": self.partitions}
        for field, count in ordered.items():
            if count != 1:
                raise ValueError(f"source {self.name}: {field} has or is {count}; with tars as archives wanted 1")
        if self.gather is not None or not isinstance(self.sampling, FirstRows):
            raise ValueError(
                f"source {self.name}: rows come in the order of the tars that hold their media; leave out `gather` and "
                "`sampling`"
            )


class GithubIssuesSource(SourceSpec, frozen=True, kw_only=True, tag="github_issues"):
    """Issues of a GitHub repository (owner/name) with their pictures, through the REST API; pull requests left out.

    A row has title, body, code (the first block), url, number, state, labels, and pictures found in the body. Issues
    are taken in order of their making, at most `max_issues`: those with all `labels`, in a `state`, with a picture
    (`needs_image`), with code (`needs_code`). GITHUB_TOKEN raises the rate limit, which is waited for up to
    `wait_seconds`. Pictures are data: their URLs must not lead into private networks unless `allow_private`.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("allow_private", "wait_seconds")

    repository: str
    state: Literal["all", "open", "closed"] = "all"
    labels: tuple[str, ...] = ()
    needs_image: bool = True
    needs_code: bool = False
    max_issues: int = 200
    max_images: int = 4
    allow_private: bool = False
    wait_seconds: float = 900.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository, re.ASCII):
            raise ValueError(f"source {self.name}: repository is {self.repository!r}; wanted owner/name")
        if self.max_issues < 1 or self.max_images < 1 or self.wait_seconds < 0:
            raise ValueError(f"source {self.name}: max_issues and max_images must be at least 1, wait_seconds 0")


def format_of(path: str) -> Format:
    """The format that a path's or URL's ending tells; empty where it tells none."""
    path = re.split(r"[?#]", path, maxsplit=1)[0].lower().removesuffix(".gz").removesuffix(".zst")
    return FORMATS.get(path.rpartition("/")[2].rpartition(".")[2], "")
