"""A dataset behind http or https: range requests that are checked, retried and bounded in time.

Here: the store, one request's life, what an answer must look like.
Elsewhere: attempts and deadlines (patience.py), redirects (web.py), digests of what was read (index.py, manifest.py),
the table of stores (urls.py).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, SpecError, StorageFailed
from shardkit.store.addresses import Guard
from shardkit.store.patience import Again, Patience, Reading, persist
from shardkit.store.ranges import GAP_BYTES, read_joined
from shardkit.store.scrub import scrub
from shardkit.store.web import Web, reason_of, retry_after

PIECE_BYTES = 1 << 18
LARGEST_AT_ONCE = 64 << 20
"""Memory for an answer is taken at once up to this size; what claims to be longer gets it as it comes."""


class HttpStore:
    """Files under a URL. Connections are opened lazily, in each process its own."""

    is_remote = True
    folder: Path | None = None

    def __init__(self, url: str, patience: Patience | None = None, guard: Guard | None = None) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise NotADataset(f"{scrub(url)} is no dataset: found a URL without a host, wanted http(s)://host/path")
        self._url = url
        self._patience = patience or Patience()
        self._guard = guard
        self._base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        self._query = parts.query
        secret_headers = {}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            secret_headers = {"Authorization": urllib3.make_headers(basic_auth=login)["authorization"]}
        self._begin(secret_headers)

    @property
    def url(self) -> str:
        """The URL without credentials and query."""
        return self._base

    def read(self, path: str, max_bytes: int) -> bytes:
        """See ByteStore."""
        return bytes(self._read(Reading(path, 0, None, self._patience), max_bytes))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        if length == 0:
            return b""
        return bytes(self._read(Reading(path, offset, length, self._patience), length))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """See ByteStore."""
        return read_joined(self.read_range, path, ranges, gap_bytes)

    def read_view(self, path: str, offset: int, length: int) -> memoryview:
        """See ranges.Viewing."""
        if length == 0:
            return memoryview(b"")
        return memoryview(self._read(Reading(path, offset, length, self._patience), length)).toreadonly()

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """Raises SpecError: there is no listing over http."""
        del folder, deep
        raise SpecError(
            f"cannot list {self._base}: http(s) has no listing; name the files with braces, such as "
            "shard-{000000..000127}.tar"
        )

    def size(self, path: str) -> int:
        """See ByteStore."""
        try:
            self._read(Reading(path, 0, 1, self._patience), 1)
        except FileMissing:
            raise
        except ShardDamaged:
            if self._sizes.get(path) != 0:  # a range of an empty file cannot be had
                raise
        return self._sizes[path]

    def tag(self, path: str) -> str:
        """See Tagged: the ETag, else Last-Modified; as last seen, where the file was asked for already."""
        if path not in self._times:
            self.size(path)
        return self._tags.get(path) or self._times.get(path, "")

    def __getstate__(self) -> tuple[str, Patience, Guard | None]:
        return self._url, self._patience, self._guard

    def __setstate__(self, state: tuple[str, Patience, Guard | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _begin(self, secret_headers: dict[str, str]) -> None:
        self.requests = 0
        self.bytes_read = 0
        self._web = Web(secret_headers, self._guard)
        self._tags: dict[str, str] = {}
        self._times: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def _read(self, reading: Reading, max_bytes: int) -> bytearray:
        def attempt() -> None:
            self._attempt(reading, max_bytes)

        transient = (HTTPError, HTTPException, OSError)
        persist(reading, f"{self.url}/{reading.path}", attempt, transient, reason_of)
        return reading.data

    def _attempt(self, reading: Reading, max_bytes: int) -> None:
        if reading.data and (reading.length is None or reading.path not in self._tags):
            reading.data.clear()  # nothing says that the rest would be of the same object
        answer = self._ask(reading)
        try:
            self._check_answer(answer, reading)
            self._receive(answer, reading, max_bytes)
        except BaseException:
            answer.close()
            raise
        answer.release_conn()

    def _ask(self, reading: Reading) -> BaseHTTPResponse:
        headers = self._request_headers(reading)
        return self._web.get(self._address(reading.path), headers, reading.silence_seconds).response

    def _address(self, path: str) -> str:
        return f"{self._base}/{quote(path)}" + (f"?{self._query}" if self._query else "")

    def _request_headers(self, reading: Reading) -> dict[str, str]:
        headers: dict[str, str] = {}
        if reading.length is not None:
            first = reading.offset + len(reading.data)
            headers["Range"] = f"bytes={first}-{reading.offset + reading.length - 1}"
            tag = self._tags.get(reading.path, "")
            if tag.startswith('"'):
                headers["If-Range"] = tag
        return headers

    def _check_answer(self, answer: BaseHTTPResponse, reading: Reading) -> None:
        with self._lock:
            self.requests += 1
        name = f"{self.url}/{reading.path}"
        status = answer.status
        if status in (404, 410):
            raise FileMissing(f"{name} is missing (status {status}); check the URL, run `shardkit verify {self.url}`")
        if status in (408, 425, 429) or status >= 500:
            raise Again(f"the server answered with status {status}", retry_after(answer))
        if status in (401, 403):
            raise self._denied(answer, name)
        self._check_same(answer, reading, name)
        if status == 416:
            empty = answer.headers.get("Content-Range", "").strip() == "bytes */0"
            self._sizes |= {reading.path: 0} if empty else {}
            raise ShardDamaged(f"{name}: is cut short: {reading.length} bytes wanted at {reading.offset}")
        if reading.length is None:
            if status != 200:
                raise StorageFailed(f"cannot read {name}: status {status}, wanted 200; check the URL")
        elif status == 206:
            self._check_range(answer, reading, name)
        else:
            self._check_whole(answer, reading, name)

    def _denied(self, answer: BaseHTTPResponse, name: str) -> StorageFailed:
        return StorageFailed(f"cannot read {name}: status {answer.status}; give a URL that you may read")

    def _check_same(self, answer: BaseHTTPResponse, reading: Reading, name: str) -> None:
        tag = answer.headers.get("ETag", "")
        weak = tag.removeprefix("W/")
        known = self._tags.get(reading.path)
        if answer.status < 300:
            self._times[reading.path] = answer.headers.get("Last-Modified", "")
        if reading.path == "manifest.json" or answer.status >= 300 or not tag:
            return  # the pointer may change; error pages have tags of their own
        if known is not None and known.removeprefix("W/") != weak:
            raise ShardDamaged(
                f"{name}: changed on the server while it was read (ETag {known} before, {tag} now), though files of a "
                "dataset never change; open the dataset again, and verify it"
            )
        self._tags[reading.path] = tag

    def _check_range(self, answer: BaseHTTPResponse, reading: Reading, name: str) -> None:
        assert reading.length is not None
        said = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said.strip())
        first, last = reading.offset + len(reading.data), reading.offset + reading.length - 1
        if match is None or int(match[1]) != first:
            raise Again(f"Content-Range is {said[:80]!r}, wanted bytes {first}-{last}")
        self._sizes[reading.path] = int(match[3])
        if int(match[2]) != last:
            if int(match[3]) <= last:
                raise ShardDamaged(f"{name}: is cut short: it has {match[3]} bytes, {last + 1} are wanted")
            raise Again(f"Content-Range is {said[:80]!r}, wanted bytes {first}-{last}")
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(last - first + 1):
            raise Again(f"Content-Length is {length[:20]}, wanted {last - first + 1}")

    def _check_whole(self, answer: BaseHTTPResponse, reading: Reading, name: str) -> None:
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200 and reading.offset == 0 and not reading.data and length == str(reading.length):
            self._sizes[reading.path] = int(length)
            return
        raise StorageFailed(
            f"cannot read {name}: a range was asked for and the server answered with status {answer.status} for the "
            "whole; use a server with range requests, such as `shardkit serve`"
        )

    def _receive(self, answer: BaseHTTPResponse, reading: Reading, max_bytes: int) -> None:
        said = answer.headers.get("Content-Length")
        wanted = reading.length if reading.length is not None else (int(said) if said and said.isdigit() else None)
        if wanted is not None and wanted <= min(max_bytes, LARGEST_AT_ONCE):
            self._receive_into(answer, reading, wanted)
        while wanted is None or len(reading.data) < wanted:
            piece = answer.read1(PIECE_BYTES)
            if not piece:
                break
            self._count(len(piece))
            reading.data += piece
            if len(reading.data) > max_bytes:
                raise ShardDamaged(f"{self.url}/{reading.path}: has more than {max_bytes} bytes, the most expected")
            reading.check_pace()
        if wanted is not None and len(reading.data) < wanted:
            raise Again(f"the connection ended after {len(reading.data)} of {wanted} bytes")

    def _receive_into(self, answer: BaseHTTPResponse, reading: Reading, wanted: int) -> None:
        """Receive into the memory that is handed out: each further copy of a block costs as much as the rest of this.

        Body bytes are taken below urllib3, whose own methods all copy; what it cannot be done for is left to them.
        """
        raw = getattr(answer, "_fp", None)
        if not isinstance(raw, HTTPResponse) or raw.chunked or raw.length is None or raw.fp is None:
            return
        had, at = len(reading.data), 0
        buffer = bytearray(min(wanted - had, raw.length))
        view = memoryview(buffer)
        try:
            while at < len(view):
                came = raw.fp.readinto1(view[at : at + PIECE_BYTES])
                if not came:
                    break
                at += came
                raw.length -= came
                self._count(came)
                reading.check_pace(at)
            if not raw.length:
                raw.close()  # the connection is free for the next request
        finally:
            view.release()
            del buffer[at:]
            reading.data = reading.data + buffer if had else buffer

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size
