"""Files at URLs: which they are, by the spec's own words or by a list of URLs in a text file.

Here: expanding braces, reading the list, names of files for positions.
Elsewhere: reading by ranges and noticing changes (web_place.py), what is in the files (formats.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shardkit.errors import ShardkitError, SourceUnavailable, SpecError
from shardkit.records.row import Cursor
from shardkit.sources.base import Pinned, Source, Step
from shardkit.sources.formats import open_format
from shardkit.sources.web_place import Opener, WebPlace, reason_of
from shardkit.spec import HttpSource, Limits
from shardkit.store.guard import open_found
from shardkit.store.patience import Patience
from shardkit.store.patterns import expand, split_file
from shardkit.store.scrub import scrub
from shardkit.store.urls import ByteStore, open_store

LIST_BYTES = 64 << 20
LOOKING = Patience(deadline_seconds=20.0, attempts=3)
"""A listed medium that does not answer for so long when the plan is made counts as gone."""
SCHEMES = ("http", "https", "s3", "gs", "az", "hf")


class Http:
    """An `http` source."""

    def __init__(self, spec: HttpSource, limits: Limits) -> None:
        self.spec, self.limits = spec, limits

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """Ask for the length and tag of every file. Raises SpecError, SourceUnavailable."""
        return self._inner(LOOKING if self._lenient else None).pin(folder)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows as the format has them."""
        return self._inner(None).rows(folder, partition, partitions, cursor)

    @property
    def _lenient(self) -> bool:
        """Of many media some are always gone; files of rows are few, and all are wanted."""
        return self.spec.known_format == "media"

    def _inner(self, patience: Patience | None) -> Source:
        files = self._files(patience)
        place = WebPlace(self.spec.name, files, lenient=self._lenient)
        return open_format(self.spec, tuple(files), place, self.limits)

    def _files(self, patience: Patience | None) -> dict[str, Opener]:
        """The files by their names, in the order of the spec, then of the list."""
        spec = self.spec
        typed = expand_urls(spec.name, spec.urls)
        found = list(self._listed()) if spec.list else []
        urls = [*typed, *found]
        names = short_names(urls)
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise SpecError(f"source {spec.name}: {twice[0]} is named twice; give every file once")
        digests = {name: spec.digests.get(url, "") for name, url in zip(names, urls, strict=True)}
        strangers = set(spec.digests) - set(urls)
        if strangers:
            raise SpecError(f"source {spec.name}: digests names {scrub(min(strangers))}, which is none of its URLs")
        return {
            name: Opener(self._typed(url) if at < len(typed) else self._found(url, patience), digests[name])
            for at, (name, url) in enumerate(zip(names, urls, strict=True))
        }

    def _listed(self) -> Iterator[str]:
        path = Path(self.spec.list).expanduser()
        try:
            size, text = path.stat().st_size, ""
            if size <= LIST_BYTES:
                text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise SpecError(
                f"source {self.spec.name}: cannot read {path}; give a text file with a URL a line"
            ) from None
        if size > LIST_BYTES:
            raise SpecError(f"source {self.spec.name}: {path} has {size} bytes, at most {LIST_BYTES}; split the list")
        lines = (line.strip() for line in text.splitlines())
        yield from (line for line in lines if line and not line.startswith("#"))

    @staticmethod
    def _typed(url: str) -> tuple[ByteStore, str]:
        folder, name = split_file(url)
        return open_store(folder), name

    def _found(self, url: str, patience: Patience | None) -> tuple[ByteStore, str]:
        try:
            return open_found(url, allow_private=self.spec.allow_private, patience=patience)
        except ShardkitError as error:
            raise SpecError(f"source {self.spec.name}: {error}") from None


def named_openers(name: str, urls: tuple[str, ...]) -> dict[str, Opener]:
    """Files that the user named, by short names, in order. Raises SpecError, SourceUnavailable."""
    expanded = expand_urls(name, urls)
    return {
        short: Opener((open_store(folder), file))
        for short, (folder, file) in zip(short_names(expanded), map(split_file, expanded), strict=True)
    }


def expand_urls(name: str, urls: tuple[str, ...]) -> list[str]:
    """The URLs that a source's `urls` stand for. Raises SpecError, SourceUnavailable."""
    for url in urls:
        if urlsplit(url).scheme.lower() not in SCHEMES:
            raise SpecError(
                f"source {name}: {scrub(url)} is no URL of {', '.join(SCHEMES)}; local files have kinds of their own"
            )
    try:
        return expand(urls) if urls else []
    except SpecError as error:
        raise SpecError(f"source {name}: {error}") from None
    except ShardkitError as error:
        raise SourceUnavailable(f"source {name}: {error}", reason_of(error)) from None


def short_names(urls: list[str]) -> list[str]:
    """Names of files for positions: their paths below the folder that all share, without host, user and query."""
    parts = [
        [urlsplit(url).netloc.rpartition("@")[2], *unquote(urlsplit(url).path).strip("/").split("/")] for url in urls
    ]
    depth = 0
    while all(len(part) > depth + 1 for part in parts) and len({part[depth] for part in parts}) == 1:
        depth += 1
    return ["/".join(part[depth:]) for part in parts]
