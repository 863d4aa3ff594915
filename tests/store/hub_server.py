"""A small Hub on loopback: revisions, paged trees, resolving with a redirect to a second server, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.store.buckets import Quiet, Server, running
from tests.store.flaky import Flaky, flaky_server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "f" * 40
TOKEN = "hf_canarytoken"


class Hub(Server):
    """One data set, owner/name, with the folder's files at two commits; tars lie on `cdn`, the rest here.

    `private` or `gated` want the token; `faults` are statuses, one taken for each request.
    """

    def __init__(self, root: Path, cdn: Flaky) -> None:
        super().__init__(HubHandler)
        self.root, self.cdn = root, cdn
        self.head = COMMIT
        self.private = self.gated = False
        self.faults: list[int] = []
        self.signature = "one"


class HubHandler(Quiet):
    server: Hub

    def do_GET(self) -> None:  # noqa: N802
        server = self.server
        server.requests.append(self.path)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if server.faults:
            return self.answer(server.faults.pop(0), b"busy")
        parts = urlsplit(self.path)
        place = unquote(parts.path).strip("/")
        if self.refused(place):
            return None
        for prefix, do in (
            ("api/datasets/owner/name/revision/", self.revision),
            ("api/datasets/owner/name/tree/", self.tree),
            ("datasets/owner/name/resolve/", self.resolve),
            ("owner/model/resolve/", self.resolve),
            ("api/models/owner/model/revision/", self.revision),
        ):
            if place.startswith(prefix):
                return do(place.removeprefix(prefix), {n: v[0] for n, v in parse_qs(parts.query).items()})
        return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def refused(self, place: str) -> bool:
        server = self.server
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if server.private and not known:
            self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return True
        if server.gated and "/resolve/" in place:
            self.answer(403 if known else 401, b"{}", {"X-Error-Code": "GatedRepo"})
            return True
        return False

    def revision(self, revision: str, query: dict[str, str]) -> None:
        commits = {"main": self.server.head, "refs/pr/1": COMMIT, "v1.0": COMMIT, COMMIT: COMMIT}
        if revision not in commits:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        return self.answer(200, json.dumps({"id": "owner/name", "sha": commits[revision], "tags": []}).encode())

    def tree(self, rest: str, query: dict[str, str]) -> None:
        commit, _, folder = rest.partition("/")
        root = self.server.root / folder
        if commit not in (COMMIT, LATER) or not root.is_dir():
            return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        paths = sorted(root.rglob("*") if query.get("recursive") == "true" else root.iterdir())
        start = int(query.get("cursor", "0"))
        entries = [
            {"type": "directory" if path.is_dir() else "file", "path": str(path.relative_to(self.server.root)),
             "size": path.stat().st_size, "oid": "0" * 40}
            for path in paths[start : start + 3]
        ]  # fmt: skip
        headers = {"Content-Type": "application/json"}
        if start + 3 < len(paths):
            page = f"{self.server.url}{quote(urlsplit(self.path).path)}?recursive={query.get('recursive')}"
            headers["Link"] = f'<{page}&cursor={start + 3}>; rel="next"'
        return self.answer(200, json.dumps(entries).encode(), headers)

    def resolve(self, rest: str, query: dict[str, str]) -> None:
        commit, _, name = rest.partition("/")
        path = self.server.root / name
        if commit not in (COMMIT, LATER) or not path.is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if name.endswith(".tar"):
            target = f"{self.server.cdn.url}/{quote(name)}?Signature=canary{self.server.signature}"
            return self.answer(302, b"moved", {"Location": target, "X-Linked-ETag": f'"{name}"', "X-Linked-Size": "1"})
        return self.ranged(path.read_bytes())


@contextmanager
def hub_server(root: Path) -> Iterator[Hub]:
    with flaky_server(root) as cdn, running(Hub(root, cdn)) as hub:
        yield hub
