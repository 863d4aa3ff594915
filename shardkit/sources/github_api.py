"""GitHub's REST API as far as issues go: pages, rate limits, what its statuses mean.

Here: listing the issues of a repository, one page after the other.
Elsewhere: what is kept of them (github_issues.py), requests and attempts (store.web, store.patience).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urljoin

import msgspec
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import FileMissing, SourceFailed, StorageFailed
from shardkit.spec import GithubIssuesSource
from shardkit.store.layout import UNREADABLE
from shardkit.store.patience import Again, Patience, Reading, persist
from shardkit.store.web import Web, origin, reason_of, retry_after

ENDPOINT = "https://api.github.com"
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
PAGE = 100
PAGE_BYTES = 64 << 20
MOST_PAGES = 1000
MOST_WAITS = 5
UNTOLD_SECONDS = 60.0
"""A wait where GitHub says that there is a limit and not for how long: as its documentation advises."""


class Label(msgspec.Struct, frozen=True):
    """A label of an issue."""

    name: str


class ApiIssue(msgspec.Struct, frozen=True):
    """What is read of an issue; a pull request is one that says so."""

    number: int
    title: str
    state: str
    html_url: str
    body: str | None = None
    labels: tuple[Label, ...] = ()
    pull_request: dict[str, object] | None = None


class _Limited(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class IssuePages:
    """The listing of one repository's issues, in the order in which they were made."""

    def __init__(self, spec: GithubIssuesSource, sleep: Callable[[float], None]) -> None:
        self._spec, self._sleep = spec, sleep
        self._endpoint = (os.environ.get("GITHUB_API_URL") or ENDPOINT).rstrip("/")
        token = os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN") or ""
        self._has_token = bool(token)
        self._web = Web({"Authorization": f"Bearer {token}"} if token else {})

    def issues(self) -> Iterator[ApiIssue]:
        """All issues and pull requests. Raises FileMissing, StorageFailed, SourceFailed (a rate limit that is long)."""
        query = {"state": self._spec.state, "sort": "created", "direction": "asc", "per_page": PAGE}
        labels = {"labels": ",".join(self._spec.labels)} if self._spec.labels else {}
        address = f"{self._endpoint}/repos/{self._spec.repository}/issues?{urlencode({**query, **labels})}"
        for _ in range(MOST_PAGES):
            issues, link = self._page(address)
            yield from issues
            if not link:
                return
            following = urljoin(address, link)
            if origin(following) != origin(address):
                raise StorageFailed(f"cannot list {self._name}: found a next page on another server")
            address = following

    @property
    def _name(self) -> str:
        return f"issues of {self._spec.repository}"

    def _page(self, address: str) -> tuple[list[ApiIssue], str]:
        """The issues of a page and the link to the next one, once the rate limit allows it."""
        waited = 0.0
        for _ in range(MOST_WAITS):
            try:
                return self._get(address)
            except _Limited as limited:
                waited += limited.seconds
                if waited > self._spec.wait_seconds:
                    hint = "run again later" if self._has_token else "set GITHUB_TOKEN, or run again later"
                    raise SourceFailed(
                        f"source {self._spec.name}: GitHub's rate limit is used up, and lasts {limited.seconds:.0f} s "
                        f"more (wait_seconds is {self._spec.wait_seconds:g}); {hint}"
                    ) from None
                self._sleep(limited.seconds)
        raise SourceFailed(f"source {self._spec.name}: GitHub's rate limit was met {MOST_WAITS} times; run again later")

    def _get(self, address: str) -> tuple[list[ApiIssue], str]:
        found: list[tuple[list[ApiIssue], str]] = []

        def attempt() -> None:
            answer = self._web.get(address, HEADERS, reading.silence_seconds).response
            try:
                self._check(answer)
                issues = msgspec.json.decode(answer.read(PAGE_BYTES), type=list[ApiIssue])
                found.append((issues, _next_link(answer.headers.get("Link", ""))))
            except UNREADABLE:
                raise Again("found no list of issues in GitHub's answer") from None
            finally:
                answer.close()

        reading = Reading("", 0, None, Patience())
        persist(reading, self._name, attempt, (HTTPError, OSError), reason_of)
        return found[0]

    def _check(self, answer: BaseHTTPResponse) -> None:
        status = answer.status
        if status in (403, 429) and (seconds := _limit_seconds(answer)) is not None:
            raise _Limited(seconds)
        if status in (408, 425, 429) or status >= 500:
            raise Again(f"GitHub answered with status {status}", retry_after(answer))
        if status in (401, 403):
            hint = "the token may not read it" if self._has_token else "set GITHUB_TOKEN if it is private"
            raise StorageFailed(f"cannot read {self._name}: status {status}; {hint}")
        if status in (404, 410):
            raise FileMissing(f"{self._name} are missing (status {status}); check the repository, or set GITHUB_TOKEN")
        if status != 200:
            raise StorageFailed(f"cannot read {self._name}: status {status}; check the repository and GITHUB_API_URL")


def _limit_seconds(answer: BaseHTTPResponse) -> float | None:
    """How long a rate limit lasts, by GitHub's own clock; None where the answer is about something else."""
    said = retry_after(answer)
    if said:
        return said
    if answer.headers.get("X-RateLimit-Remaining") != "0":
        return UNTOLD_SECONDS if answer.status == 429 else None
    try:
        now = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        return max(1.0, float(answer.headers["X-RateLimit-Reset"]) - now + 1)
    except (KeyError, TypeError, ValueError):
        return UNTOLD_SECONDS


def _next_link(header: str) -> str:
    """The address of the next page in a Link header (RFC 8288), empty on the last."""
    match = re.search(r'<([^<>]*)>\s*;[^<]*?\brel="?next\b', header)
    return match[1] if match else ""
