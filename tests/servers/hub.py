"""A Hub on loopback, as `huggingface_hub`, `datasets` and our own client speak to one: API, trees in pages, files.

Here: data sets given as mappings of paths to bytes, at commits named after their content; large files lie on a second
server to which the first redirects with a signature; gated, private, renamed and missing repositories; faults.
Elsewhere: what the tests ask of it.

    with hub_server({"owner/name": {"data/train.jsonl": b"..."}}, renamed={"old/name": "owner/name"}) as hub:
        ... HF_ENDPOINT=hub.url ...
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

Files = Mapping[str, bytes | str]
TOKEN = "hf_canarytoken"
"""The token of a user who has accepted every gate."""
OTHER_TOKEN = "hf_canarystranger"
"""The token of a user who has accepted none."""
S = TypeVar("S", bound="_Server")
DISABLED = "Access to this resource is disabled."


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[Asked] = []
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


class Hub(_Server):
    """The Hub. Everything may be changed while it runs.

    `faults` are taken one for each request for a file, `api_faults` one for each of the API: `cut` (half of the
    bytes), `reset`, a status such as `429` or `503` (with `retry_after`), or "" for none. `pages` is how many entries
    a page of a tree has. Files of at least `large_bytes` lie on the second server; without `ranges` the others are
    given only as a whole. `exports` is what the endpoint `parquet` tells of a repository.
    """

    def __init__(self, repositories: Mapping[str, Files], cdn: Cdn) -> None:
        super().__init__(_HubHandler)
        self.cdn = cdn
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.references: dict[str, dict[str, str]] = {}
        self.renamed: dict[str, str] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.disabled: set[str] = set()
        self.exports: dict[str, dict[str, dict[str, list[str]]]] = {}
        self.faults: list[str] = []
        self.api_faults: list[str] = []
        self.retry_after = {"Retry-After": "0"}
        self.pages = 1000
        self.ranges = True
        self.large_bytes = 1 << 20
        for name, files in repositories.items():
            self.commit(name, files)

    def commit(self, name: str, files: Files, reference: str = "main") -> str:
        """Give a repository new content; returns the commit, the same for the same files."""
        content = {path: data.encode() if isinstance(data, str) else data for path, data in sorted(files.items())}
        digest = hashlib.sha1(repr([(path, git_digest(data)) for path, data in content.items()]).encode()).hexdigest()
        self.commits.setdefault(name, {})[digest] = content
        self.references.setdefault(name, {})[reference] = digest
        return digest

    def head(self, name: str) -> str:
        """The commit of main."""
        return self.references[name]["main"]

    def tampered(self, name: str, path: str, data: bytes) -> None:
        """Put other bytes behind the same commit."""
        self.commits[name][self.head(name)][path] = data

    def asked(self, part: str, method: str = "GET") -> list[Asked]:
        """Requests whose path has a part in it, here and on the second server."""
        found = [*self.requests, *self.cdn.requests]
        return [request for request in found if part in unquote(request.path) and request.method == method]


class Cdn(_Server):
    """Where large files lie, by SHA-256; `faults` as the Hub's."""

    def __init__(self) -> None:
        super().__init__(_CdnHandler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.retry_after = {"Retry-After": "0"}


@contextmanager
def hub_server(
    repositories: Mapping[str, Files],
    *,
    renamed: Mapping[str, str] | None = None,
    gated: Iterable[str] = (),
    private: Iterable[str] = (),
    faults: Iterable[str] = (),
    api_faults: Iterable[str] = (),
    pages: int = 1000,
    large_bytes: int = 1 << 20,
) -> Iterator[Hub]:
    """A Hub with these data sets, by owner/name; see Hub for the faults."""
    with _running(Cdn()) as cdn, _running(Hub(repositories, cdn)) as hub:
        hub.renamed.update(renamed or {})
        hub.gated.update(gated)
        hub.private.update(private)
        hub.faults.extend(faults)
        hub.api_faults.extend(api_faults)
        hub.pages, hub.large_bytes = pages, large_bytes
        yield hub


def git_digest(data: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Answers with faults and ranges; logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Asked(self.command, self.path, headers))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, sent: int = -1) -> None:
        """Send an answer; of the body only the first `sent` bytes, and then hang up."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            part = body if sent < 0 else body[:sent]
            self.wfile.write(part)
            self.server.sent_bytes += len(part)
        if sent >= 0:
            self.close_connection = True

    def faulty(self, fault: str) -> bool:
        """Whether the request was answered by its fault."""
        if fault == "reset":
            self.close_connection = True
            self.connection.close()
        elif fault.isdigit():
            self.answer(int(fault), b'{"error": "busy"}', self.server.retry_after)
        return fault == "reset" or fault.isdigit()

    def give(self, data: bytes, headers: Mapping[str, str], *, cut: bool) -> None:
        """The file or the range that was asked for."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        asked = self.headers.get("Range", "") if getattr(self.server, "ranges", True) else ""
        first, last, ranged = _asked_range(asked, len(data))
        if ranged and first >= len(data):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        part = data[first : last + 1]
        if ranged:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.answer(206 if ranged else 200, part, headers, len(part) // 2 if cut else -1)


class _CdnHandler(_Handler):
    def do_GET(self) -> None:
        self.note()
        fault = self.server.faults.pop(0) if self.server.faults and self.command == "GET" else ""
        if self.faulty(fault):
            return None
        digest = urlsplit(self.path).path.strip("/")
        if digest not in self.server.files:
            return self.answer(403, b"<Error>AccessDenied</Error>")
        return self.give(self.server.files[digest], {"ETag": f'"{digest[:32]}"'}, cut=fault == "cut")


class _HubHandler(_Handler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.do_GET()

    def do_GET(self) -> None:
        self.note()
        parts = urlsplit(self.path)
        place = [unquote(part) for part in parts.path.strip("/").split("/")]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        is_api = place[:2] == ["api", "datasets"]
        faults = self.server.api_faults if is_api else self.server.faults
        fault = faults.pop(0) if faults and self.command != "HEAD" else ""
        if self.faulty(fault):
            return None
        if not is_api and place[0] != "datasets":
            return self.refuse(404, "")
        name, rest = self.find(place[2 if is_api else 1 :])
        if name in self.server.renamed:
            return self.moved(name, self.server.renamed[name])
        if not self.allowed(name, is_api):
            return None
        if is_api:
            return self.api(name, rest, query)
        if rest[:1] == ["resolve"] and len(rest) > 2:
            return self.resolve(name, rest[1], "/".join(rest[2:]), cut=fault == "cut")
        return self.refuse(404, "EntryNotFound")

    def find(self, place: list[str]) -> tuple[str, list[str]]:
        """The repository's name, of one part or two, and what stands behind it."""
        known = {*self.server.commits, *self.server.renamed}
        count = 1 if place and place[0] in known else 2
        return "/".join(place[:count]), place[count:]

    def moved(self, name: str, target: str) -> None:
        where = self.path.replace(f"datasets/{quote(name)}", f"datasets/{quote(target)}", 1)
        self.answer(307, b"Temporary Redirect", {"Location": where})

    def allowed(self, name: str, is_api: bool) -> bool:
        """What the Hub says to strangers: of what they may not see it says that it does not exist."""
        server, token = self.server, (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", TOKEN, OTHER_TOKEN):
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif name not in server.commits or (name in server.private and token != TOKEN):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif name in server.disabled:
            self.refuse(403, "", DISABLED)
        elif name in server.gated and not is_api and token != TOKEN:
            self.refuse(403 if token else 401, "GatedRepo", f"Access to dataset {name} is restricted.")
        else:
            return True
        return False

    def refuse(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message or "not found"}).encode()
        self.answer(status, body, headers | ({"X-Error-Message": message} if message else {}))

    def content(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.server.references[name].get(revision, revision)
        files = self.server.commits[name].get(commit)
        return None if files is None else (commit, files)

    def api(self, name: str, rest: list[str], query: dict[str, str]) -> None:
        what, revision = (*rest, "", "main")[0], (*rest, "main")[1] if len(rest) > 1 else "main"
        if what == "parquet":
            return self.answer_json(self.server.exports.get(name, {}))
        if what == "refs":
            return self.answer_json({"branches": [], "tags": [], "converts": []})
        found = self.content(name, revision)
        if found is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        actions: dict[str, Callable[[], None]] = {
            "": lambda: self.info(name, *found),
            "revision": lambda: self.info(name, *found),
            "tree": lambda: self.tree(found[1], "/".join(rest[2:]), query),
            "paths-info": lambda: self.paths_info(found[1]),
        }
        return actions.get(what, lambda: self.refuse(404, ""))()

    def info(self, name: str, commit: str, files: dict[str, bytes]) -> None:
        self.answer_json({
            "_id": "1", "id": name, "author": name.split("/")[0], "sha": commit, "private": False, "disabled": False,
            "gated": "auto" if name in self.server.gated else False, "downloads": 0, "likes": 0, "tags": [],
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in files], "cardData": _front(files.get("README.md", b"")),
        })  # fmt: skip

    def tree(self, files: dict[str, bytes], folder: str, query: dict[str, str]) -> None:
        entries = _entries(files, folder, deep=query.get("recursive", "").lower() == "true")
        entries = [self.entry(path, files.get(path)) for path in entries]
        if not entries and folder:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist")
        start = int(query.get("cursor", "0"))
        headers = {}
        if start + self.server.pages < len(entries):
            wanted = "&".join(f"{key}={value}" for key, value in query.items() if key != "cursor")
            page = f"{self.server.url}{urlsplit(self.path).path}?{wanted}&cursor={start + self.server.pages}"
            headers["Link"] = f'<{page}>; rel="next"'
        return self.answer_json(entries[start : start + self.server.pages], headers)

    def paths_info(self, files: dict[str, bytes]) -> None:
        text = self.body.decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        folders = _entries(files, "", deep=True)
        self.answer_json([self.entry(path, files.get(path)) for path in paths if path in folders])

    def entry(self, path: str, data: bytes | None) -> dict[str, Any]:
        if data is None:
            return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
        if len(data) < self.server.large_bytes:
            return {"type": "file", "path": path, "size": len(data), "oid": git_digest(data)}
        digest = hashlib.sha256(data).hexdigest()
        lfs = {"oid": digest, "size": len(data), "pointerSize": 134}
        return {"type": "file", "path": path, "size": len(data), "oid": git_digest(digest.encode()), "lfs": lfs}

    def resolve(self, name: str, revision: str, path: str, *, cut: bool) -> None:
        found = self.content(name, revision)
        if found is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = found
        data = files.get(path)
        if data is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_digest(data)}"'}
        if len(data) < self.server.large_bytes:
            return self.give(data, headers, cut=cut)
        digest = hashlib.sha256(data).hexdigest()
        self.server.cdn.files[digest] = data
        target = f"{self.server.cdn.url}/{digest}?Signature=canarysignature"
        linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data)), "Location": target}
        return self.answer(302, b"Found", {"X-Repo-Commit": commit, **linked})

    def answer_json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


def _front(readme: bytes) -> Any:
    """The YAML in front of a README, which the Hub gives out as JSON."""
    parts = readme.decode().split("---\n")
    return yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None


def _entries(files: Mapping[str, bytes], folder: str, *, deep: bool) -> list[str]:
    """Files and folders below a folder, sorted."""
    prefix = f"{folder}/" if folder else ""
    found = set()
    for path in files:
        parts = path.removeprefix(prefix).split("/") if path.startswith(prefix) else []
        for count in range(1, len(parts) + 1 if deep else min(len(parts), 1) + 1):
            found.add(prefix + "/".join(parts[:count]))
    return sorted(found)


def _asked_range(header: str, size: int) -> tuple[int, int, bool]:
    """(first, last, whether a range was asked for) of a Range header."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not header.startswith("bytes="):
        return 0, size - 1, False
    if not first:
        return max(0, size - int(last)), size - 1, True
    return int(first), min(int(last), size - 1) if last else size - 1, True


@contextmanager
def _running(server: S) -> Iterator[S]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
