"""GitHub's issues API on loopback: pages with Link, labels and states, rate limits, and pictures on a second server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.files import Files, Quiet, Server, file_server, running

TOKEN = "ghp_canarytoken"
NOW = 1_764_000_000
DATE = "Mon, 24 Nov 2025 16:00:00 GMT"
"""The server's clock."""


class GitHub(Server):
    """The repository owner/name with `issues`; `limited` answers say that the limit is used up for `left` seconds.

    `secondary` is a Retry-After sent with 403; `page` is how many issues a page has.
    """

    def __init__(self, pictures: Files) -> None:
        super().__init__(_Handler)
        self.pictures = pictures
        self.issues: list[dict[str, Any]] = []
        self.limited = 0
        self.left = 40
        self.secondary = ""
        self.page = 3


class _Handler(Quiet):
    server: GitHub

    def date_time_string(self, timestamp: float | None = None) -> str:
        return DATE

    def serve(self) -> None:
        server = self.server
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if server.limited:
            server.limited -= 1
            reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + server.left)}
            return self.answer(403, b"{}", {"Retry-After": server.secondary} if server.secondary else reset)
        if parts.path == "/repos/old/name/issues":
            return self.answer(301, b"", {"Location": f"{server.url}/repos/owner/name/issues?{parts.query}"})
        if parts.path != "/repos/owner/name/issues":
            return self.answer(404, b'{"message": "Not Found"}')
        wanted = set(query["labels"].split(",")) if "labels" in query else set()
        found = [
            issue
            for issue in server.issues
            if wanted <= {label["name"] for label in issue["labels"]} and query["state"] in ("all", issue["state"])
        ]
        found.sort(key=lambda issue: issue["number"], reverse=query["direction"] != "asc")
        at = (int(query.get("page", "1")) - 1) * server.page
        headers = {"X-RateLimit-Remaining": "50", "Content-Type": "application/json; charset=utf-8"}
        if at + server.page < len(found):
            rest = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
            following = f"{server.url}{parts.path}?{rest}&page={at // server.page + 2}"
            headers["Link"] = f'<{following}>; rel="next", <{server.url}/last>; rel="last"'
        return self.answer(200, json.dumps(found[at : at + server.page]).encode(), headers)


def issue(number: int, body: str | None, *labels: str, state: str = "open", pull: bool = False) -> dict[str, Any]:
    """An issue as the API shows it, with fields that nobody reads."""
    made = {
        "id": 10_000 + number, "number": number, "title": f"Title {number}", "body": body, "state": state,
        "html_url": f"https://github.com/owner/name/issues/{number}", "user": {"login": "someone"},
        "labels": [{"id": 1, "name": label, "color": "fff"} for label in labels], "comments": 0,
    }  # fmt: skip
    return {**made, "pull_request": {"url": "x"}} if pull else made


@contextmanager
def github_server() -> Iterator[GitHub]:
    with file_server() as pictures, running(GitHub(pictures)) as server:
        yield server
