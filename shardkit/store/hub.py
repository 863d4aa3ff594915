"""A dataset in a repository of the Hugging Face Hub: hf://datasets/owner/name[@revision]/path, over plain HTTP.

Here: addresses, the commit to which a revision is pinned, listing, what the Hub's refusals mean.
Elsewhere: reading and its checks (http.py), the user's token and endpoint (hub_login.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urljoin

import msgspec
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import FileMissing, SpecError, StorageFailed
from shardkit.store.http import HttpStore
from shardkit.store.hub_login import find_endpoint, find_token, is_offline
from shardkit.store.layout import UNREADABLE
from shardkit.store.patience import Again, Patience, Reading, persist
from shardkit.store.scrub import scrub
from shardkit.store.web import is_unreachable, origin, reason_of, retry_after

MAX_PAGES = 10_000
MAX_PAGE_BYTES = 32 << 20
LINK_SECONDS = 240.0
"""How long the address to which the Hub sent us for a file is used again: its signatures last an hour or more."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", flags=re.ASCII)


class HubPlace(NamedTuple):
    """What an hf:// URL names: `datasets` or `models`, owner/name, a revision or nothing, a folder in it."""

    kind: str
    repository: str
    revision: str
    folder: str

    def url(self, revision: str) -> str:
        """The URL of the folder at a revision."""
        kind = "datasets/" if self.kind == "datasets" else ""
        at = f"@{revision.replace('/', '%2F')}" if revision else ""
        return f"hf://{kind}{self.repository}{at}{'/' if self.folder else ''}{self.folder}"


class HubInfo(msgspec.Struct, frozen=True, rename={"card": "cardData"}):
    """What the Hub says of a repository at a revision: the name that it has now, the commit, and what its page shows.

    `gated` is false or how access is granted; `card` the YAML of its README. These may be anything: people write them.
    """

    sha: str
    id: str = ""
    gated: Any = False
    disabled: Any = False
    tags: Any = ()
    card: Any = None


class Lfs(msgspec.Struct, frozen=True):
    """Of a large file: its SHA-256 in hex."""

    oid: str = ""


class HubEntry(msgspec.Struct, frozen=True):
    """A file or a folder of a commit: path from the top, bytes, git's digest; that of a large file is of a pointer."""

    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: Lfs | None = None

    @property
    def digest(self) -> str:
        """The digest by which the Hub tags the file when it gives it out."""
        return self.lfs.oid if self.lfs and self.lfs.oid else self.oid


class HubDenied(StorageFailed):
    """The Hub does not give it to us: `status` 401 or 403, `code` its own word for why, `said` its message."""

    def __init__(self, message: str, status: int, code: str, said: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.said = status, code, said


class HubMissing(FileMissing):
    """The Hub has it not; `code` is its word for what is missing: RepoNotFound, RevisionNotFound, EntryNotFound."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class HubUnreachable(StorageFailed):
    """No server answered at all."""


class HubStore(HttpStore):
    """Files under a folder of a repository, all of one commit: the one that the revision meant at the first request.

    Another `endpoint` than the user's own gets no token.
    """

    def __init__(
        self, url: str | HubPlace, patience: Patience | None = None, commit: str = "", endpoint: str = ""
    ) -> None:
        self._place = url if isinstance(url, HubPlace) else parse_hub(url)
        own = find_endpoint()
        self._endpoint = endpoint.rstrip("/") or own
        token = find_token() if self._endpoint == own else ""
        self.last_status = 0
        """Of the latest answer: what tells a Hub that has enough of us (429) from one that is down."""
        super().__init__(self._endpoint, patience)
        self._begin({"Authorization": f"Bearer {token}"} if token else {})
        self._has_token = bool(token)
        self._commit = commit or (self._place.revision if _COMMIT.fullmatch(self._place.revision) else "")
        self._digests: dict[str, str] = {}
        self._links: dict[str, tuple[str, float]] = {}

    @property
    def url(self) -> str:
        """The URL as it was given."""
        return self._place.url(self._place.revision)

    def pin(self) -> str:
        """The commit that is read, asked for once. Raises FileMissing, StorageFailed."""
        return self._commit or self.info().sha

    def info(self) -> HubInfo:
        """The repository's present name and the commit, which is what is read from now on. Raises as `pin`."""
        try:
            found = msgspec.json.decode(self._get(self._api("revision"), "")[0], type=HubInfo)
        except UNREADABLE:
            found = HubInfo(sha="")
        if not _COMMIT.fullmatch(found.sha):
            raise StorageFailed(f"cannot read {self.url}: found no commit in the Hub's answer; check HF_ENDPOINT")
        self._commit = found.sha
        return found

    def tree(self, folder: str = "", *, deep: bool = True) -> Iterator[HubEntry]:
        """Files and folders below a folder of the whole repository, page by page. Raises HubMissing, StorageFailed."""
        address = f"{self._api('tree')}/{quote(folder.strip('/'))}".rstrip("/")
        address += "?" + urlencode({"recursive": str(deep).lower(), "expand": "false"})
        return self._pages(address, folder)

    def exports(self) -> Any:
        """What the Hub's own parquet of a data set holds: addresses by configuration and split; asked for once.

        Raises as `pin`.
        """
        address = f"{self._endpoint}/api/{self._place.kind}/{self._place.repository}/parquet"
        data = self._get(address, "", msgspec.structs.replace(self._patience, attempts=1))[0]
        try:
            return msgspec.json.decode(data)
        except UNREADABLE:  # looking whether it is JSON passes over text that is not UTF-8
            raise StorageFailed(f"cannot read {self.url}: the Hub's answer is no JSON; check HF_ENDPOINT") from None

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """See ByteStore; all pages of the listing."""
        start = "/".join(part for part in (self._place.folder, folder.strip("/")) if part)
        own = f"{self._place.folder}/" if self._place.folder else ""
        found = []
        entries = self.tree(start, deep=deep)
        try:
            for entry in entries:
                if entry.type == "file" or not deep:
                    found.append(entry.path[len(own) :] + ("/" if entry.type == "directory" else ""))
        except FileMissing:
            return []  # no such folder: the repository and the revision are there, or pinning had failed
        return sorted(found)

    def tag(self, path: str) -> str:
        """See Tagged: the digest by which the Hub knows the file, the same in every commit that holds it."""
        if path not in self._digests:
            self.size(path)
        return self._digests.get(path, "")

    def seen(self, path: str) -> tuple[int | None, str]:
        """Size and tag of a file as its last answer had them, without asking; None and empty where it had none."""
        return self._sizes.get(path), self._digests.get(path, "")

    def __getstate__(self) -> Any:
        return self._place, self._patience, self._commit, self._endpoint

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _address(self, path: str) -> str:
        kind = "datasets/" if self._place.kind == "datasets" else ""
        place = f"{self._place.folder}/{path}" if self._place.folder else path
        return f"{self._endpoint}/{kind}{self._place.repository}/resolve/{self.pin()}/{quote(place)}"

    def _ask(self, reading: Reading) -> BaseHTTPResponse:
        """Ask the server to which the Hub sent us for this file before, else the Hub."""
        headers = self._request_headers(reading)
        link, ends = self._links.get(reading.path, ("", 0.0))
        if link and time.monotonic() < ends:
            try:
                answer = self._web.get(link, headers, reading.silence_seconds, with_secrets=False).response
            except (HTTPError, OSError):
                self._links.pop(reading.path, None)  # the Hub may send us to another server
                raise
            if answer.status in (200, 206, 416) or answer.status >= 500 or answer.status == 429:
                return answer
            answer.close()
            self._links.pop(reading.path, None)
            raise Again(f"the link to the file is no longer good (status {answer.status})")
        answer, last, tag = self._web.get(self._address(reading.path), headers, reading.silence_seconds)
        if answer.status in (200, 206):
            self._digests[reading.path] = tag or answer.headers.get("ETag", "")
            if origin(last) != origin(self._endpoint):
                self._links[reading.path] = last, time.monotonic() + LINK_SECONDS
        return answer

    def _check_answer(self, answer: BaseHTTPResponse, reading: Reading) -> None:
        self.last_status = answer.status
        if answer.status in (404, 410):
            with self._lock:
                self.requests += 1
            code = answer.headers.get("X-Error-Code", "")
            name = f"{self.url}/{reading.path}"
            raise HubMissing(f"{name} is missing (status {answer.status}); check the URL", code or "EntryNotFound")
        super()._check_answer(answer, reading)

    def _denied(self, answer: BaseHTTPResponse, name: str) -> StorageFailed:
        code, said = (answer.headers.get(header, "")[:200] for header in ("X-Error-Code", "X-Error-Message"))
        return HubDenied(f"cannot read {name}: {self._refusal(answer)}", answer.status, code, said)

    def _refusal(self, answer: BaseHTTPResponse) -> str:
        """What the Hub's status and error code mean for the user."""
        code = answer.headers.get("X-Error-Code", "")
        page = f"{self._endpoint}/{'datasets/' if self._place.kind == 'datasets' else ''}{self._place.repository}"
        if code == "GatedRepo":
            need = "with your token" if self._has_token else "and set HF_TOKEN"
            return f"status {answer.status}, the repository is gated: accept its conditions at {page} {need}"
        if self._has_token:
            return f"status {answer.status}: the token may not read it, or it does not exist; check {page}"
        return f"status {answer.status}: it is private or does not exist; check {page}, or set HF_TOKEN"

    def _api(self, what: str) -> str:
        revision = self._commit or self._place.revision or "main"
        if what == "tree":
            revision = self.pin()
        return f"{self._endpoint}/api/{self._place.kind}/{self._place.repository}/{what}/{quote(revision, safe='')}"

    def _pages(self, address: str, folder: str) -> Iterator[HubEntry]:
        for _ in range(MAX_PAGES):
            data, link = self._get(address, folder)
            yield from _decode_page(data, self.url)
            if not link:
                return
            following = urljoin(address, link)
            if origin(following) != origin(address):
                raise StorageFailed(f"cannot list {self.url}: found a next page on another server")
            address = following
        raise StorageFailed(f"cannot list {self.url}: found more than {MAX_PAGES} pages")

    def _get(self, address: str, path: str, patience: Patience | None = None) -> tuple[bytes, str]:
        """A JSON answer of the Hub and the link to its next page. Raises FileMissing, StorageFailed."""
        if is_offline():
            raise StorageFailed(f"cannot read {self.url}: HF_HUB_OFFLINE is set; unset it, or give a local folder")
        found: list[tuple[bytes, str]] = []
        name = f"{self.url}/{path}".rstrip("/")

        def attempt() -> None:
            answer = self._first(address, name, reading)
            try:
                self._check_json(answer, name)
                data = answer.read(MAX_PAGE_BYTES + 1)
                if len(data) > MAX_PAGE_BYTES:
                    raise StorageFailed(f"cannot list {name}: found an answer of more than {MAX_PAGE_BYTES} bytes")
                if not _is_json(data):
                    raise Again("the answer is no JSON")
                found.append((data, _next_link(answer.headers.get("Link", ""))))
            finally:
                answer.close()

        reading = Reading(path, 0, None, patience or self._patience)
        persist(reading, name, attempt, (HTTPError, OSError), reason_of)
        return found[0]

    def _first(self, address: str, name: str, reading: Reading) -> BaseHTTPResponse:
        try:
            return self._web.get(address, {}, reading.silence_seconds).response
        except HTTPError as error:
            if self.requests or self._patience.wait_for_network or not is_unreachable(error):
                raise
            reason = reason_of(error)
        raise HubUnreachable(f"cannot read {name}: {self._endpoint} cannot be reached ({reason}); check the network")

    def _check_json(self, answer: BaseHTTPResponse, name: str) -> None:
        with self._lock:
            self.requests += 1
            self.last_status = answer.status
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise Again(f"the Hub answered with status {answer.status}", retry_after(answer))
        if answer.status in (401, 403):
            raise self._denied(answer, name)
        if answer.status == 404:
            code = answer.headers.get("X-Error-Code", "")
            what = {"RevisionNotFound": "the revision", "RepoNotFound": "the repository"}.get(code, "it")
            raise HubMissing(f"{name} is missing: {what} does not exist on the Hub; check the URL", code)
        if answer.status != 200:
            raise StorageFailed(f"cannot read {name}: status {answer.status}; check the URL and HF_ENDPOINT")


def parse_hub(url: str) -> HubPlace:
    """The parts of an hf:// URL; a revision with a slash is written %2F, or begins with refs/. Raises SpecError."""
    scheme, _, rest = url.partition("://")
    parts = [part for part in rest.split("/") if part]
    kind = parts.pop(0) if parts and parts[0] in ("datasets", "models", "spaces") else "models"
    if scheme.lower() != "hf" or len(parts) < 2 or kind == "spaces":
        raise SpecError(f"{scrub(url)[:200]}: wanted hf://datasets/owner/name[@revision]/folder")
    owner, (name, _, revision) = parts[0], parts[1].partition("@")
    folder = parts[2:]
    if revision == "refs" and len(folder) >= 2:
        revision, folder = "/".join((revision, *folder[:2])), folder[2:]
    if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)) or ".." in folder or "?" in url:
        raise SpecError(f"{scrub(url)[:200]}: found no valid repository or path in it, wanted hf://datasets/owner/name")
    return HubPlace(kind, f"{owner}/{name}", unquote(revision), "/".join(folder))


def _decode_page(data: bytes, url: str) -> list[HubEntry]:
    try:
        return msgspec.json.decode(data, type=list[HubEntry])
    except UNREADABLE:
        raise StorageFailed(f"cannot list {url}: found no listing in the Hub's answer; check HF_ENDPOINT") from None


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


def _next_link(header: str) -> str:
    """The address of the next page in a Link header (RFC 8288), empty on the last."""
    match = re.search(r'<([^<>]*)>\s*;[^<]*?\brel="?next\b', header)
    return match[1] if match else ""
