"""An HTTP server for a folder, with ranges and ETags, that misbehaves in a way it is told.

Here: truncating, resetting, trickling, changing the object in between.
Elsewhere: a server that behaves (shardkit.read.serve), the cases (damage.py).
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DATA_SUFFIXES = (".tar", ".parquet", ".zst", ".mds", ".bin")
TRICKLE_BYTES = 64
TRICKLE_SECONDS = 0.01


class BadServer(ThreadingHTTPServer):
    """Serves `folder`; the `turn`-th request for data (0: every one) gets the fault."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, fault: str, turn: int) -> None:
        super().__init__(("127.0.0.1", 0), BadHandler)
        self.folder, self.fault, self.turn = folder, fault, turn
        self.asked = 0
        self.changed = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the folder is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up."""

    def fault_of(self, path: Path) -> str:
        """What this request suffers."""
        if path.suffix not in DATA_SUFFIXES or "versions" in path.parts:
            return ""
        with self.lock:
            self.asked += 1
            return self.fault if self.turn in (0, self.asked) else ""


class BadHandler(BaseHTTPRequestHandler):
    """One request."""

    server: BadServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def do_HEAD(self) -> None:
        """The head of what GET gives."""
        self._answer(body_wanted=False)

    def do_GET(self) -> None:
        """A file or a range of it."""
        self._answer(body_wanted=True)

    def _answer(self, body_wanted: bool) -> None:
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = self.server.fault_of(path) if body_wanted else ""
        if fault == "change":
            self.server.changed = True
        data = path.read_bytes()
        if self.server.changed and path.suffix in DATA_SUFFIXES:
            data = bytes(byte ^ 1 if at % 700 == 699 else byte for at, byte in enumerate(data))
        tag = '"two"' if self.server.changed else '"one"'
        start, stop, status = self._span(len(data), tag)
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        if fault == "unsaid cut":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body_wanted:
            self._send(data[start:stop], fault)

    def _span(self, size: int, tag: str) -> tuple[int, int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", tag) != tag or int(match[1]) >= size:
            return 0, size, 200
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        return int(match[1]), last + 1, 206

    def _send(self, body: bytes, fault: str) -> None:
        if fault in ("truncate", "unsaid cut", "reset"):
            # At a multiple of 512 where there is one: a tar that ends there looks whole to many readers.
            body = body[: max(len(body) // 2 // 512 * 512, len(body) // 4)]
            self.close_connection = True
        if fault == "trickle":
            for at in range(0, len(body), TRICKLE_BYTES):
                self.wfile.write(body[at : at + TRICKLE_BYTES])
                time.sleep(TRICKLE_SECONDS)
            return
        self.wfile.write(body)
        self.wfile.flush()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())


@contextmanager
def serve_badly(folder: Path, fault: str, turn: int) -> Iterator[BadServer]:
    """A server while the context lasts."""
    server = BadServer(folder, fault, turn)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
