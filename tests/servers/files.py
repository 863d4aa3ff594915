"""A file server on loopback: ranges, ETags made from the bytes, files that change, and faults one request at a time."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WHEN = "Sat, 21 Nov 2026 08:00:00 GMT"


class Server(ThreadingHTTPServer):
    """What all servers here have. `faults` are taken one for each request: a status, "cut", "reset", or "" for none.

    `asked` are the paths and queries that came, `headers` the headers with them, `retry_after` goes with 429 and 503.
    """

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.retry_after = "0"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


class Quiet(BaseHTTPRequestHandler):
    """Answers whole, in ranges, or as a fault says; logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.fault = self.server.faults.pop(0) if self.server.faults else ""
        if self.fault.isdigit():
            headers = {"Retry-After": self.server.retry_after} if self.fault in ("429", "503") else {}
            return self.answer(int(self.fault), b"fault", headers)
        if self.fault == "reset":
            self.close_connection = True
            return self.connection.close()
        return self.serve()

    def serve(self) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.fault == "cut":
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def answer_ranged(self, data: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match or self.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag"):
            return self.answer(200, data, headers)
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        if first >= len(data):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        return self.answer(
            206, data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        )


class Files(Server):
    """`content` by path; without `tags` only Last-Modified (`when`) tells versions apart.

    Ranges that begin at `lost_from` or behind are not found: a file that goes away while it is read.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.content: dict[str, bytes] = {}
        self.tags = True
        self.when = WHEN
        self.lost_from: int | None = None


class _Handler(Quiet):
    server: Files

    def serve(self) -> None:
        data = self.server.content.get(unquote(urlsplit(self.path).path))
        first = int(self.headers.get("Range", "bytes=0-").partition("=")[2].partition("-")[0])
        if data is None or (self.server.lost_from is not None and first >= self.server.lost_from):
            return self.answer(404, b"gone")
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"'} if self.server.tags else {}
        return self.answer_ranged(data, {**headers, "Last-Modified": self.server.when})


@contextmanager
def running(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def file_server() -> Iterator[Files]:
    with running(Files()) as server:
        yield server
