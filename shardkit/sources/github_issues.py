"""Issues of a GitHub repository, with the pictures that their texts show.

Here: what is kept of an issue, pinning issues and pictures, rows.
Elsewhere: the API, its pages and rate limits (github_api.py), pictures by ranges and changes (web_place.py), which
addresses data may reach (store.guard).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from blake3 import blake3

from shardkit.errors import (
    FileMissing,
    ShardDamaged,
    SourceFailed,
    SourceUnavailable,
    SpecError,
    StorageFailed,
    UrlRefused,
)
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.github_api import ApiIssue, IssuePages
from shardkit.sources.listing import CHUNK_BYTES, Entry, write_private
from shardkit.sources.web_place import Opener, RangedFile, look_at, reason_of
from shardkit.spec import GithubIssuesSource, Limits
from shardkit.store.guard import open_found
from shardkit.store.patience import Patience
from shardkit.store.urls import ByteStore

ISSUES = "issues"
LOOKING = Patience(deadline_seconds=20.0, attempts=3)
"""A picture that does not answer for so long when the plan is made counts as gone."""
PICTURE = re.compile(
    r"!\[[^\]\n]*\]\(\s*<?(https?://[^\s<>()]+(?:\([^\s<>()]*\)[^\s<>()]*)*)|<img\s[^<>]*?src\s*=\s*[\"'](https?://[^\"'\s<>]+)",
    re.I,
)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")


class Picture(msgspec.Struct, frozen=True):
    """A picture of an issue: its URL, and its length and tag when the plan was made."""

    url: str
    size: int
    tag: bytes


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """An issue as it was pinned."""

    number: int
    title: str
    body: str
    code: str
    url: str
    state: str
    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]


class GithubIssues:
    """A `github_issues` source. Partition p of P takes every issue whose place in the listing is p modulo P.

    `sleep` waits for the rate limit.
    """

    def __init__(self, spec: GithubIssuesSource, limits: Limits, sleep: Callable[[float], None] = time.sleep) -> None:
        self.spec, self.limits, self._sleep = spec, limits, sleep

    def missing_tool(self) -> str:
        """Empty: nothing is needed; a token only raises the rate limit."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the issues and keep their texts; ask for the length and tag of each picture.

        Raises SpecError (none), SourceUnavailable (not found, no permission), SourceFailed (rate limit).
        """
        revision, count = blake3(), 0

        def records() -> Iterator[bytes]:
            nonlocal count
            for issue in self._issues():
                record = msgspec.msgpack.encode(issue)
                revision.update(len(record).to_bytes(4, "little") + record)
                count += 1
                yield len(record).to_bytes(4, "little") + record
            if not count:
                raise SpecError(
                    f"source {self.spec.name}: {self.spec.repository} has no issue that is wanted; check `labels`, "
                    "`state`, `needs_image` and `needs_code`"
                )

        write_private(folder / ISSUES, records())
        return Pinned(revision=revision.hexdigest(), rows=count)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row an issue, in the order of their numbers; the cursor is the number of the last one done."""
        done = int(cursor["issue"]) if cursor else 0
        for at, issue in enumerate(self._pinned(folder)):
            if issue.number > done and at % partitions == partition:
                yield Step(row=self._row(issue), cursor={"issue": issue.number})

    def _issues(self) -> Iterator[Issue]:
        """Issues that are wanted, by number, at most as many as the spec says."""
        spec, count, last = self.spec, 0, 0
        for found in self._listed():
            if found.pull_request is not None or found.number <= last:
                continue  # a list that shifted between two pages may give one twice
            issue = self._wanted(found)
            if issue is None:
                continue
            count, last = count + 1, found.number
            yield issue
            if count == spec.max_issues:
                return

    def _listed(self) -> Iterator[ApiIssue]:
        """What the API lists. Raises SourceUnavailable, SourceFailed."""
        try:
            yield from IssuePages(self.spec, self._sleep).issues()
        except (StorageFailed, ShardDamaged) as error:
            raise SourceUnavailable(f"source {self.spec.name}: {error}", reason_of(error)) from None

    def _wanted(self, found: ApiIssue) -> Issue | None:
        body = found.body or ""
        urls, code = picture_urls(body)[: self.spec.max_images], first_code(body)
        if (self.spec.needs_image and not urls) or (self.spec.needs_code and not code):
            return None
        pictures = tuple(picture for url in urls if (picture := self._look_at(url)))
        if self.spec.needs_image and not pictures:
            return None
        labels = tuple(sorted(label.name for label in found.labels))
        return Issue(
            number=found.number, title=found.title, body=body, code=code, url=found.html_url, state=found.state,
            labels=labels, pictures=pictures,
        )  # fmt: skip

    def _look_at(self, url: str) -> Picture | None:
        """A picture, unless it is gone, may not be read, or is too big."""
        try:
            entry = look_at(url, Opener(self._opened(url, LOOKING)))
        except (FileMissing, UrlRefused, StorageFailed, ShardDamaged):
            return None
        fits = 0 < entry.size <= self.limits.member_bytes
        return Picture(url=url, size=entry.size, tag=entry.digest) if fits else None

    def _opened(self, url: str, patience: Patience) -> tuple[ByteStore, str]:
        return open_found(url, allow_private=self.spec.allow_private, patience=patience)

    def _row(self, issue: Issue) -> Row | BadRow:
        fields: dict[str, Any] = {
            "number": issue.number,
            "title": issue.title,
            "body": issue.body,
            "code": issue.code,
            "url": issue.url,
            "state": issue.state,
            "labels": list(issue.labels),
        }
        data = [self._picture(picture) for picture in issue.pictures]
        blobs = {"image": data[0]} if len(data) == 1 else {f"image.{at}": blob for at, blob in enumerate(data)}
        return Row(position=f"{self.spec.repository}#{issue.number}", fields=fields, blobs=blobs)

    def _picture(self, picture: Picture) -> bytes:
        """A picture as it was pinned. Raises SourceChanged, SourceFailed."""
        entry = Entry(picture.url.encode(), picture.size, picture.tag)
        stream = RangedFile(self._opened(picture.url, Patience()), entry, self.spec.name)
        parts = bytearray()
        while part := stream.read(CHUNK_BYTES):
            parts += part
        return bytes(parts)

    def _pinned(self, folder: Path) -> Iterator[Issue]:
        try:
            with (folder / ISSUES).open("rb") as stream:
                while head := stream.read(4):
                    yield msgspec.msgpack.decode(stream.read(int.from_bytes(head, "little")), type=Issue)
        except (OSError, msgspec.DecodeError):
            raise SourceFailed(
                f"source {self.spec.name}: its issues under .build are missing or damaged; build with --update to list "
                "them again"
            ) from None


def picture_urls(body: str) -> list[str]:
    """The pictures that a text in Markdown shows, in order, each once; what stands in code is none."""
    shown = "\n".join(line for line, part in _lines(body) if part == "text")
    return list(dict.fromkeys(match[1] or match[2] for match in PICTURE.finditer(shown)))


def first_code(body: str) -> str:
    """The first fenced block of code that is not blank, without its fences; empty where there is none."""
    block: list[str] = []
    for line, part in [*_lines(body), ("", "fence")]:
        if part == "code":
            block.append(line)
        elif part == "fence":
            if "".join(block).strip():
                return "\n".join(block) + "\n"
            block = []
    return ""


def _lines(body: str) -> Iterator[tuple[str, Literal["text", "fence", "code"]]]:
    """Lines, and whether each is text, a fence of code, or code. A block that is not closed goes on to the end."""
    fence = ""
    for line in body.replace("\r\n", "\n").split("\n"):
        opens = FENCE.match(line) if not fence else None
        stripped = line.strip()
        if opens:
            fence = opens[1]
            yield line, "fence"
        elif fence and stripped.startswith(fence) and not stripped.strip(fence[0]):
            fence = ""
            yield line, "fence"
        else:
            yield line, "code" if fence else "text"
