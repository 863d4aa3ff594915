"""A dataset in an object store: s3://bucket/path, gs://bucket/path, az://container/path, through obstore.

Here: the store, one attempt's life, what the library's errors mean.
Elsewhere: attempts and deadlines (patience.py), endpoints and credentials (credentials.py), the library (engine.py).
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from shardkit.errors import FileMissing, ShardDamaged, SpecError, StorageFailed
from shardkit.store.credentials import HINTS, bucket_region, find_access
from shardkit.store.engine import engine
from shardkit.store.patience import Again, Patience, Reading, persist
from shardkit.store.ranges import GAP_BYTES, read_joined
from shardkit.store.scrub import scrub

PIECE_BYTES = 1 << 18
CLASSES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
_Ask = Callable[[Reading, Any, Any], None]
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}|\$(?:root|web|logs)")
_PHRASES = ("timed out", "connection refused", "connection reset", "dns error", "certificate", "end of file")


class ObjectStore:
    """Files under a prefix of a bucket. Clients are opened lazily, in each process its own."""

    is_remote = True
    folder: Path | None = None

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self._scheme, self._bucket, self._prefix = _parse(url)
        self._patience = patience or Patience()
        self._processes: dict[int, _Process] = {}

    @property
    def url(self) -> str:
        """The URL; it holds no credentials."""
        return f"{self._scheme}://{self._bucket}{'/' if self._prefix else ''}{self._prefix}"

    @property
    def requests(self) -> int:
        """How many requests this process made."""
        return self._process().requests

    @property
    def bytes_read(self) -> int:
        """How many bytes they gave."""
        return self._process().bytes_read

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

    def size(self, path: str) -> int:
        """See ByteStore."""
        found: list[int] = []

        def ask(reading: Reading, library: Any, client: Any) -> None:
            meta = library.head(client, self._key(reading.path))
            self._check_same(reading, meta)
            found.append(meta["size"])

        self._persist(Reading(path, 0, None, self._patience), ask)
        return found[0]

    def tag(self, path: str) -> str:
        """See Tagged: the ETag, as last seen where the file was asked for already."""
        if path not in self._process().tags:
            self.size(path)
        return self._process().tags.get(path, "")

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """See ByteStore."""
        start = self._key(folder.rstrip("/"))
        found: list[str] = []

        def ask(reading: Reading, library: Any, client: Any) -> None:
            found.clear()
            if deep:
                for page in library.list(client, start or None, chunk_size=1000):
                    found.extend(meta["path"] for meta in page)
            else:
                page = library.list_with_delimiter(client, start or None)
                found.extend(f"{name}/" for name in page["common_prefixes"])
                found.extend(meta["path"] for meta in page["objects"])

        self._persist(Reading(folder, 0, None, self._patience), ask)
        own = f"{self._prefix}/" if self._prefix else ""
        return sorted(path[len(own) :] for path in found)

    def __getstate__(self) -> tuple[str, Patience]:
        return self.url, self._patience

    def __setstate__(self, state: tuple[str, Patience]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _process(self) -> _Process:
        found = self._processes.get(os.getpid())
        if found is None:
            self._processes = {os.getpid(): _Process()}
            found = self._processes.setdefault(os.getpid(), _Process())
        return found

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}".strip("/") if self._prefix else path

    def _read(self, reading: Reading, max_bytes: int) -> bytearray:
        is_whole = reading.length is None

        def attempt(reading: Reading, library: Any, client: Any) -> None:
            if reading.data and not self._process().tags.get(reading.path):
                reading.data.clear()  # nothing says that the rest would be of the same object
            if is_whole and not reading.data:
                reading.length = None
            self._attempt(reading, max_bytes, library, client)

        self._persist(reading, attempt)
        return reading.data

    def _persist(self, reading: Reading, ask: _Ask) -> None:
        name = f"{self.url}/{reading.path}".rstrip("/")

        def attempt() -> None:
            process = self._process()
            process.count(0)
            library = engine(self._scheme)
            try:
                ask(reading, library, self._client(process, library, reading))
                process.has_worked = True
            except (OSError, ValueError, library.exceptions.BaseError) as error:
                problem = self._problem(error, reading, name)
            else:
                return
            raise problem  # out here, since the library's text may hold secrets and must not stay as the context

        persist(reading, name, attempt, ())

    def _attempt(self, reading: Reading, max_bytes: int, library: Any, client: Any) -> None:
        options: dict[str, Any] = {"if_match": self._process().tags[reading.path]} if reading.data else {}
        first = reading.offset + len(reading.data)
        if reading.length is not None:
            options["range"] = (first, reading.offset + reading.length)
        answer = library.get(client, self._key(reading.path), options=options)
        size = answer.meta["size"]
        self._check_same(reading, answer.meta)
        self._check_extent(reading, first, answer.range, size, max_bytes)
        wanted = reading.length = size if reading.length is None else reading.length
        for piece in answer.stream(min_chunk_size=PIECE_BYTES):
            reading.data += memoryview(piece)
            self._process().count(len(piece), 0)
            if len(reading.data) < wanted:
                reading.check_pace()
        if len(reading.data) != wanted:
            found = len(reading.data)
            if found > wanted:
                reading.data.clear()
            raise Again(f"{found} bytes came, wanted {wanted}")

    def _check_extent(self, reading: Reading, first: int, got: tuple[int, int], size: int, max_bytes: int) -> None:
        name = f"{self.url}/{reading.path}"
        if reading.length is None:
            if size > max_bytes:
                raise ShardDamaged(f"{name}: has {size} bytes, at most {max_bytes} are expected")
            return
        end = reading.offset + reading.length
        if size < end:
            raise ShardDamaged(f"{name}: is cut short: it has {size} bytes, {end} are wanted")
        if tuple(got) != (first, end):
            raise Again(f"the answer is bytes {got[0]}-{got[1]}, wanted {first}-{end}")

    def _check_same(self, reading: Reading, meta: Any) -> None:
        tag = meta.get("e_tag")
        if not tag or reading.path == "manifest.json":
            return  # the pointer may change
        if self._process().tags.setdefault(reading.path, tag) != tag:
            raise _changed(f"{self.url}/{reading.path}")

    def _client(self, process: _Process, library: Any, reading: Reading) -> Any:
        """A client that gives up within the deadline: its time-out is the largest power of two that is left."""
        seconds = 2.0 ** math.floor(math.log2(max(reading.seconds_left, 0.25)))
        with process.lock:
            if seconds not in process.clients:
                process.clients[seconds] = self._open(library, seconds, process.region)
            return process.clients[seconds]

    def _open(self, library: Any, seconds: float, region: str) -> Any:
        access = find_access(self._scheme)
        config = access.config | ({"region": region} if region else {})
        silence = timedelta(seconds=min(self._patience.silence_seconds, seconds))
        client = {"timeout": timedelta(seconds=seconds), "connect_timeout": silence, "read_timeout": silence}
        return getattr(library.store, CLASSES[self._scheme])(
            self._bucket,
            config=config,
            client_options=access.client | client | {"user_agent": "shardkit"},
            retry_config={"max_retries": 0},  # tried again here, with the whole read's deadline
            credential_provider=access.provider,
        )

    def _problem(self, error: Exception, reading: Reading, name: str) -> Exception:
        """What an error of the library means: damage, a refusal, or another attempt."""
        text, kind = str(error), type(error).__name__
        status = _status(text)
        said = _said(text, status)
        if kind == "ValueError":
            return SpecError(f"cannot read {name}: found a path that the store does not take; check the URL")
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return FileMissing(f"{name} is missing: there is no bucket {self._bucket}; check the URL")
        if isinstance(error, FileNotFoundError):
            return FileMissing(f"{name} is missing ({said}); check the URL, run `shardkit verify {self.url}`")
        if kind == "PreconditionError":
            return _changed(name)
        if status == 416:
            return ShardDamaged(f"{name}: is cut short: {reading.length} bytes wanted at {reading.offset}")
        if self._moves_region(text, status):
            return Again("the bucket is in another region")
        if kind in ("PermissionDeniedError", "UnauthenticatedError") or self._lacks_credentials(text):
            return StorageFailed(f"cannot read {name}: {said}: not allowed; {HINTS[self._scheme]}")
        if status is None or status in (408, 425, 429) or status >= 500:
            return Again(said)
        return StorageFailed(f"cannot read {name}: {said}; check the URL, the region and the endpoint")

    def _lacks_credentials(self, text: str) -> bool:
        """No credentials anywhere: the library then asks the machine's metadata server, which is not there."""
        asked = re.search(r"169\.254\.169\.254|metadata\.google|/metadata/identity", text)
        return asked is not None and not self._process().has_worked

    def _moves_region(self, text: str, status: int | None) -> bool:
        """Go on in the bucket's own region, once, where S3 says that it is another than was asked."""
        process = self._process()
        if self._scheme != "s3" or process.region or not ("without LOCATION" in text or status in (301, 400)):
            return False
        asked = find_access("s3").config.get("region", "us-east-1")
        process.region = bucket_region(self._bucket, min(self._patience.silence_seconds, 5.0)) or asked
        with process.lock:
            process.clients.clear()
        return bool(process.region != asked)


class _Process:
    """What belongs to one process: clients by their time-out, tags of files seen, counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: dict[float, Any] = {}
        self.tags: dict[str, str] = {}
        self.region = ""
        self.has_worked = False
        self.requests = 0
        self.bytes_read = 0

    def count(self, size: int, requests: int = 1) -> None:
        with self.lock:
            self.requests += requests
            self.bytes_read += size


def _parse(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix; the path is taken as it is written, without percent-encoding."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    scheme, prefix = scheme.lower(), prefix.strip("/")
    if "@" in bucket or ":" in bucket or "?" in rest:
        raise SpecError(
            f"{scrub(url)}: found a login or a query in it, wanted {scheme}://bucket/path; credentials come from the "
            f"environment: {HINTS.get(scheme, '')}"
        )
    if scheme not in CLASSES or not _BUCKET.fullmatch(bucket):
        raise SpecError(f"{scrub(url)[:200]}: found no bucket's name in it, wanted {scheme}://bucket/path")
    return scheme, bucket, prefix


def _changed(name: str) -> ShardDamaged:
    return ShardDamaged(
        f"{name}: changed in the store while it was read, though files of a dataset never change; open the dataset "
        "again, and verify it"
    )


def _status(text: str) -> int | None:
    match = re.search(r"status code: (\d{3})\b", text)
    return int(match[1]) if match else None


def _said(text: str, status: int | None) -> str:
    """A reason without any part of the request."""
    if status:
        code = re.search(r"<Code>(\w{1,60})</Code>", text)
        return f"status {status}" + (f" {code[1]}" if code else "")
    lower = text.lower()
    return next((phrase for phrase in _PHRASES if phrase in lower), "the request failed")
