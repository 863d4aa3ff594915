"""A small HTTP server on loopback that serves a folder with ranges, and misbehaves as told."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class Flaky(ThreadingHTTPServer):
    """`faults` is a list of names, one taken for each request (none left: the server behaves).

    `requests` and `headers` are what came; `location` is where the fault "location" leads.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.faults: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.tag = '"one"'
        self.login = ""
        self.location = ""
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Flaky

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range", "")
        server.requests.append((self.path, asked))
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault = server.faults.pop(0) if server.faults else ""
        if (
            server.login
            and self.headers.get("Authorization") != "Basic " + base64.b64encode(server.login.encode()).decode()
        ):
            return self.answer(401, b"")
        path = server.root / unquote(self.path.partition("?")[0]).lstrip("/")
        if not path.is_file():
            return self.answer(404, b"gone")
        return self.misbehave(fault, path.read_bytes(), asked)

    def misbehave(self, fault: str, data: bytes, asked: str) -> None:
        if fault.isdigit():
            return self.answer(int(fault), b"busy")
        if fault == "change":
            self.server.tag = '"two"'
        if fault == "reset":
            self.connection.close()
            self.close_connection = True
            return None
        if fault == "location":
            return self.answer(302, b"", {"Location": self.server.location})
        if fault == "redirect":
            return self.answer(302, b"", {"Location": self.path + "?again"})
        status, body, headers = self.ranged(data, asked if fault != "no ranges" else "")
        if fault == "wrong range":
            headers["Content-Range"] = "bytes 1-2/3"
        if fault == "other bytes":
            status, body, headers = self.ranged(data, "bytes=1-" + str(len(body)))
        return self.answer(status, body, headers, fault)

    def ranged(self, data: bytes, asked: str) -> tuple[int, bytes, dict[str, str]]:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        headers = {"ETag": self.server.tag} if self.server.tag else {}
        condition = self.headers.get("If-Range")
        if match is None or (condition is not None and condition != self.server.tag):
            return 200, data, headers
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        if first >= len(data):
            return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
        return 206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, fault: str = "") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if fault == "unsaid cut":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in ("truncate", "unsaid cut"):
            body = body[: len(body) // 2]
            self.close_connection = True
        if fault == "trickle":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
            return
        if fault == "hang":
            time.sleep(1.0)
            self.close_connection = True
            return
        self.wfile.write(body)
        if fault == "truncate":
            self.wfile.flush()


@contextmanager
def flaky_server(root: Path) -> Iterator[Flaky]:
    server = Flaky(root)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
