"""A small HTTP server for one folder: range requests, ETags, nothing outside of the folder.

Here: the server that `shardkit serve`, the demo and the tests use.
Elsewhere: the client (store.http).
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from shardkit.errors import SpecError, StorageFailed

IDLE_SECONDS = 60.0
TYPES = {".json": "application/json", ".tar": "application/x-tar", ".html": "text/html; charset=utf-8"}


class Request(NamedTuple):
    """One answered request: the file's path in the folder, and the first byte and number of bytes sent."""

    path: str
    offset: int
    length: int


class FolderServer(ThreadingHTTPServer):
    """Serves `folder` at `url` until it is closed. `requests` lists what was asked for and answered with bytes."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, address: tuple[str, int]) -> None:
        self.folder = folder.resolve()
        self.requests: list[Request] = []
        super().__init__(address, FolderHandler)

    @property
    def url(self) -> str:
        """Where the folder is served."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


@contextmanager
def serve_folder(folder: str | Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[FolderServer]:
    """Serve a folder over HTTP/1.1 in the background while the context lasts; port 0 takes a free one.

    Raises SpecError (no such folder), StorageFailed (the address is taken or not ours).
    """
    root = Path(folder)
    if not root.is_dir():
        raise SpecError(f"cannot serve {root}: found no folder there; give the folder of a dataset")
    try:
        server = FolderServer(root, (host, port))
    except OSError as error:
        raise StorageFailed(f"cannot listen on {host}:{port}: {error.strerror}; take another port") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FolderHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for regular files below the folder."""

    server: FolderServer
    protocol_version = "HTTP/1.1"
    server_version = "shardkit"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """A file, or the range of it that is asked for."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """What GET would say, without the bytes."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged: the query may hold secrets."""

    def _answer(self, with_body: bool) -> None:
        fd = open_inside(self.server.folder, self.path)
        if fd is None:
            self._refuse(404)
            return
        try:
            status = os.fstat(fd)
            tag = etag(status)
            span = wanted_span(self.headers.get("Range"), self.headers.get("If-Range"), tag, status.st_size)
            if span is None:
                self._refuse(416, {"Content-Range": f"bytes */{status.st_size}"})
                return
            self._send_head(span, status, tag)
            if with_body:
                self._send_bytes(fd, *span)
        finally:
            os.close(fd)

    def _send_head(self, span: tuple[int, int], status: os.stat_result, tag: str) -> None:
        offset, length = span
        partial = self.headers.get("Range") is not None and length > 0 and self._is_range_honoured(tag)
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {offset}-{offset + length - 1}/{status.st_size}")
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", TYPES.get(Path(urlsplit(self.path).path).suffix, "application/octet-stream"))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
        self.end_headers()

    def _is_range_honoured(self, tag: str) -> bool:
        return is_range(self.headers.get("Range")) and self.headers.get("If-Range", tag) == tag

    def _send_bytes(self, fd: int, offset: int, length: int) -> None:
        path = unquote_to_bytes(urlsplit(self.path).path).decode("utf-8", "replace").lstrip("/")
        self.server.requests.append(Request(path, offset, length))
        if not length:
            return
        with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
            sent = self.connection.sendfile(file, offset, length)
        if sent < length:  # the file became shorter: the client must see that bytes are missing
            self.close_connection = True

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def open_inside(folder: Path, target: str) -> int | None:
    """A descriptor of the regular file that a request's path names below `folder`; None where there is none.

    Links, `..`, empty parts, NUL and backslashes are refused: each part is opened from its parent without following.
    """
    try:
        parts = unquote_to_bytes(urlsplit(target).path).decode("utf-8").split("/")[1:]
    except (UnicodeDecodeError, ValueError):
        return None
    if not parts or any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        return None
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts):
            kind = os.O_NONBLOCK if number == len(parts) - 1 else os.O_DIRECTORY
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=here)
            os.close(here)
            here = below
    except OSError:
        os.close(here)
        return None
    if not stat.S_ISREG(os.fstat(here).st_mode):
        os.close(here)
        return None
    return here


def etag(status: os.stat_result) -> str:
    """A strong tag: another file, another size or another time of change give another one."""
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def is_range(header: str | None) -> bool:
    """Whether a Range header is one that we honour: one range of bytes."""
    return header is not None and re.fullmatch(r"bytes=(\d+-\d*|-\d+)", header.strip()) is not None


def wanted_span(header: str | None, if_range: str | None, tag: str, size: int) -> tuple[int, int] | None:
    """(first byte, bytes) that are asked for; the whole without a range that we honour; None: not satisfiable."""
    if not is_range(header) or (if_range is not None and if_range != tag):
        return 0, size
    assert header is not None
    first, _, last = header.strip()[len("bytes=") :].partition("-")
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else None
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size or end < start:
        return None
    return start, end - start + 1
