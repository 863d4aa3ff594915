"""A dataset behind http or https: range requests that are checked, retried and bounded in time.

Here: the store, one request's life, what an answer must look like.
Elsewhere: digests of what was read (index.py, manifest.py), the table of stores (urls.py).
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, SpecError, StorageFailed
from shardkit.store.ranges import GAP_BYTES, read_joined
from shardkit.store.scrub import scrub

PIECE_BYTES = 1 << 18
SLOWEST_BYTES_PER_SECOND = 1 << 17
"""A read's deadline grows with its length as if the network were at least this fast."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a read is tried: seconds in total, seconds without any byte, attempts, seconds of the first pause."""

    deadline_seconds: float = 60.0
    silence_seconds: float = 15.0
    attempts: int = 8
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0


class _Again(Exception):
    """This attempt failed in a way that the next may not."""


class _Reading:
    """One read: what is wanted, what has come, which version of the object it comes from, when it must end."""

    def __init__(self, path: str, offset: int, length: int | None, patience: Patience) -> None:
        self.path, self.offset, self.length = path, offset, length
        self.data = bytearray()
        self.ends = time.monotonic() + patience.deadline_seconds + (length or 0) / SLOWEST_BYTES_PER_SECOND

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


class HttpStore:
    """Files under a URL. Connections are opened lazily, in each process its own."""

    is_remote = True
    folder: Path | None = None

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise NotADataset(f"{scrub(url)} is no dataset: found a URL without a host, wanted http(s)://host/path")
        self._url = url
        self._patience = patience or Patience()
        self._base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        self._query = parts.query
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "shardkit"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers |= urllib3.make_headers(basic_auth=login)
        self._begin()

    @property
    def url(self) -> str:
        """The URL without credentials and query."""
        return self._base

    def read(self, path: str, max_bytes: int) -> bytes:
        """See ByteStore."""
        return bytes(self._read(_Reading(path, 0, None, self._patience), max_bytes))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        if length == 0:
            return b""
        return bytes(self._read(_Reading(path, offset, length, self._patience), length))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """See ByteStore."""
        return read_joined(self.read_range, path, ranges, gap_bytes)

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """Raises SpecError: there is no listing over http."""
        del folder, deep
        raise SpecError(
            f"cannot list {self._base}: http(s) has no listing; name the files with braces, such as "
            "shard-{000000..000127}.tar"
        )

    def size(self, path: str) -> int:
        """See ByteStore."""
        reading = _Reading(path, 0, 1, self._patience)
        self._read(reading, 1)
        return self._sizes[path]

    def __getstate__(self) -> tuple[str, Patience]:
        return self._url, self._patience

    def __setstate__(self, state: tuple[str, Patience]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _begin(self) -> None:
        self.requests = 0
        self.bytes_read = 0
        self._pools: dict[int, urllib3.PoolManager] = {}
        self._tags: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def _pool(self) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get(os.getpid())
            if pool is None:
                retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5, status=0, other=0)
                pool = urllib3.PoolManager(maxsize=32, retries=retries)
                self._pools = {os.getpid(): pool}
            return pool

    def _read(self, reading: _Reading, max_bytes: int) -> bytearray:
        pause = self._patience.first_pause_seconds
        for attempt in range(1, self._patience.attempts + 1):
            try:
                self._attempt(reading, max_bytes)
                return reading.data
            except (_Again, HTTPError, OSError) as error:
                reason = _reason(error)
            nap = random.uniform(pause / 2, pause)
            if attempt == self._patience.attempts or reading.seconds_left <= nap:
                break
            time.sleep(nap)
            pause = min(2 * pause, self._patience.longest_pause_seconds)
        raise StorageFailed(
            f"cannot read {self._base}/{reading.path}: {reason} (attempt {attempt} of {self._patience.attempts}); "
            "check the server and the network, then run the same command again"
        )

    def _attempt(self, reading: _Reading, max_bytes: int) -> None:
        if reading.seconds_left <= 0:
            raise _Again(f"no complete answer within {self._patience.deadline_seconds:g} s")
        if reading.data and (reading.length is None or reading.path not in self._tags):
            reading.data.clear()  # nothing says that the rest would be of the same object
        silence = max(0.05, min(self._patience.silence_seconds, reading.seconds_left))
        answer = self._pool().request(
            "GET",
            self._address(reading.path),
            headers=self._request_headers(reading),
            timeout=urllib3.Timeout(connect=silence, read=silence),
            preload_content=False,
            decode_content=False,
        )
        try:
            self._check_answer(answer, reading)
            self._receive(answer, reading, max_bytes)
        except BaseException:
            answer.close()
            raise
        answer.release_conn()

    def _address(self, path: str) -> str:
        return f"{self._base}/{quote(path)}" + (f"?{self._query}" if self._query else "")

    def _request_headers(self, reading: _Reading) -> dict[str, str]:
        headers = dict(self._headers)
        if reading.length is not None:
            first = reading.offset + len(reading.data)
            headers["Range"] = f"bytes={first}-{reading.offset + reading.length - 1}"
            tag = self._tags.get(reading.path, "")
            if tag.startswith('"'):
                headers["If-Range"] = tag
        return headers

    def _check_answer(self, answer: BaseHTTPResponse, reading: _Reading) -> None:
        with self._lock:
            self.requests += 1
        name = f"{self._base}/{reading.path}"
        status = answer.status
        if status in (404, 410):
            raise FileMissing(f"{name} is missing (status {status}); check the URL, run `shardkit verify {self._base}`")
        if status in (408, 425, 429) or status >= 500:
            raise _Again(f"the server answered with status {status}")
        if status in (401, 403):
            raise StorageFailed(f"cannot read {name}: status {status}; give a URL that you may read")
        self._check_same(answer, reading, name)
        if status == 416:
            raise ShardDamaged(f"{name}: is cut short: {reading.length} bytes wanted at {reading.offset}")
        if reading.length is None:
            if status != 200:
                raise StorageFailed(f"cannot read {name}: status {status}, wanted 200; check the URL")
        elif status == 206:
            self._check_range(answer, reading, name)
        else:
            self._check_whole(answer, reading, name)

    def _check_same(self, answer: BaseHTTPResponse, reading: _Reading, name: str) -> None:
        tag = answer.headers.get("ETag", "")
        weak = tag.removeprefix("W/")
        known = self._tags.get(reading.path)
        if reading.path == "manifest.json" or answer.status >= 300 or not tag:
            return  # the pointer may change; error pages have tags of their own
        if known is not None and known.removeprefix("W/") != weak:
            raise ShardDamaged(
                f"{name}: changed on the server while it was read (ETag {known} before, {tag} now), though files of a "
                "dataset never change; open the dataset again, and verify it"
            )
        self._tags[reading.path] = tag

    def _check_range(self, answer: BaseHTTPResponse, reading: _Reading, name: str) -> None:
        assert reading.length is not None
        said = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said.strip())
        first, last = reading.offset + len(reading.data), reading.offset + reading.length - 1
        if match is None or int(match[1]) != first:
            raise _Again(f"Content-Range is {said[:80]!r}, wanted bytes {first}-{last}")
        self._sizes[reading.path] = int(match[3])
        if int(match[2]) != last:
            if int(match[3]) <= last:
                raise ShardDamaged(f"{name}: is cut short: it has {match[3]} bytes, {last + 1} are wanted")
            raise _Again(f"Content-Range is {said[:80]!r}, wanted bytes {first}-{last}")
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(last - first + 1):
            raise _Again(f"Content-Length is {length[:20]}, wanted {last - first + 1}")

    def _check_whole(self, answer: BaseHTTPResponse, reading: _Reading, name: str) -> None:
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200 and reading.offset == 0 and not reading.data and length == str(reading.length):
            self._sizes[reading.path] = int(length)
            return
        raise StorageFailed(
            f"cannot read {name}: a range was asked for and the server answered with status {answer.status} for the "
            "whole; use a server with range requests, such as `shardkit serve`"
        )

    def _receive(self, answer: BaseHTTPResponse, reading: _Reading, max_bytes: int) -> None:
        said = answer.headers.get("Content-Length")
        wanted = reading.length if reading.length is not None else (int(said) if said and said.isdigit() else None)
        while wanted is None or len(reading.data) < wanted:
            piece = answer.read1(PIECE_BYTES)
            if not piece:
                break
            self._count(len(piece))
            reading.data += piece
            if len(reading.data) > max_bytes:
                raise ShardDamaged(f"{self._base}/{reading.path}: has more than {max_bytes} bytes, the most expected")
            if reading.seconds_left <= 0:
                raise _Again(f"{len(reading.data)} bytes came within {self._patience.deadline_seconds:g} s")
        if wanted is not None and len(reading.data) < wanted:
            raise _Again(f"the connection ended after {len(reading.data)} of {wanted} bytes")

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size


def _reason(error: BaseException) -> str:
    """What went wrong, without the URL that urllib3 puts into its messages (it may hold secrets)."""
    if isinstance(error, _Again):
        return str(error)
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    cause: Any = error.__cause__ or error.__context__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
