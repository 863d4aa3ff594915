"""Object stores on loopback: moto's S3 server, a server with the answers of GCS and Azure, a proxy that misbehaves."""

from __future__ import annotations

import http.client
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

BUCKET = "bucket"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""


class Proxy(Server):
    """Passes requests on to `port`; `faults` is a list of names, one taken for each request."""

    def __init__(self, port: int) -> None:
        super().__init__(_ProxyHandler)
        self.port = port
        self.faults: list[str] = []


class Quiet(BaseHTTPRequestHandler):
    """Answers, whole or in ranges; logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def ranged(self, data: bytes) -> None:
        headers = {
            "ETag": '"one"',
            "Last-Modified": "Sat, 21 Nov 2026 08:00:00 GMT",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": "2023-11-03",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if asked is None:
            return self.answer(200, data, headers)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if first >= len(data):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.answer(206, data[first : last + 1], headers)


class _ProxyHandler(Quiet):
    server: Proxy

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault = server.faults.pop(0) if server.faults else ""
        if fault == "other region" and "/eu-north-1/" not in self.headers.get("Authorization", ""):
            server.faults.append(fault)
            headers = {"x-amz-bucket-region": "eu-north-1"}
            return self.answer(301 if self.command == "GET" else 200, b"", headers)
        if fault.isdigit():
            return self.answer(int(fault), b"<Error><Code>SlowDown</Code></Error>")
        if fault == "reset":
            self.close_connection = True
            return self.connection.close()
        if fault == "hang":
            time.sleep(1.0)
            self.close_connection = True
            return None
        return self.pass_on(fault)

    def pass_on(self, fault: str) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        sent = dict(self.headers.items())
        if fault == "whole":
            sent.pop("range", None)
        upstream.request(self.command, self.path, headers=sent)
        answer = upstream.getresponse()
        body = answer.read()
        headers = {n: v for n, v in answer.getheaders() if n.lower() not in ("connection", "transfer-encoding", "date")}
        headers = {n: v for n, v in headers.items() if n.lower() != "content-length" or self.command == "HEAD"}
        upstream.close()
        if fault == "changed":
            headers["ETag"] = '"another"'
        if fault == "other range":
            headers["Content-Range"] = "bytes 1-2/3"
        if fault in ("truncate", "trickle"):
            return self.cut(answer.status, body, headers, fault)
        return self.answer(answer.status, body, headers)

    def cut(self, status: int, body: bytes, headers: dict[str, str], fault: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            return
        for byte in body:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)


class Cloud(Server):
    """What GCS and Azure answer to GETs of objects and listings, over a folder's files; pages hold two names."""

    def __init__(self, root: Path) -> None:
        super().__init__(_CloudHandler)
        self.root = root

    def names(self, prefix: str) -> list[str]:
        every = (str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        return sorted(name for name in every if name.startswith(prefix))


class _CloudHandler(Quiet):
    server: Cloud

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.requests.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        place = unquote(parts.path).removeprefix("/account").strip("/").removeprefix(BUCKET).strip("/")
        if "list-type" in query or query.get("comp") == "list":
            return self.listing(query, is_azure="comp" in query)
        path = self.server.root / place
        if not path.is_file():
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return self.ranged(path.read_bytes())

    def listing(self, query: dict[str, str], *, is_azure: bool) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = query.get("marker") or query.get("continuation-token") or ""
        entries: dict[str, int | None] = {}
        for name in self.server.names(prefix):
            head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
            key = f"{prefix}{head}{delimiter}" if found else name
            entries[key] = None if found else (self.server.root / name).stat().st_size
        names = [name for name in entries if name > after]
        more = names[1] if len(names) > 2 else ""
        write = _azure_page if is_azure else _google_page
        body = write([(name, entries[name]) for name in names[:2]], more)
        self.answer(200, body.encode(), {"Content-Type": "application/xml"})


def _google_page(entries: list[tuple[str, int | None]], more: str) -> str:
    inner = ""
    for name, size in entries:
        if size is None:
            inner += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        else:
            inner += (
                f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size><ETag>one</ETag>"
                "<LastModified>2026-11-21T08:00:00.000Z</LastModified></Contents>"
            )
    token = f"<NextContinuationToken>{escape(more)}</NextContinuationToken>" if more else ""
    return f"<ListBucketResult>{inner}{token}<IsTruncated>{str(bool(more)).lower()}</IsTruncated></ListBucketResult>"


def _azure_page(entries: list[tuple[str, int | None]], more: str) -> str:
    inner = ""
    for name, size in entries:
        if size is None:
            inner += f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
        else:
            inner += (
                f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{size}</Content-Length><Etag>one</Etag>"
                "<Last-Modified>Sat, 21 Nov 2026 08:00:00 GMT</Last-Modified>"
                "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
            )
    return f"<EnumerationResults><Blobs>{inner}</Blobs><NextMarker>{escape(more)}</NextMarker></EnumerationResults>"


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
def s3_server() -> Iterator[int]:
    """Moto's S3 on a port of loopback; skips where moto or obstore is missing."""
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shardkit[cloud]'")
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3,server]'")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


def put(port: int, name: str, data: bytes) -> None:
    """Store an object; the server keeps no accounts, but wants a signature's shape."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20261121/us-east-1/s3/aws4_request, Signature=0"}
    connection.request("PUT", f"/{name}", body=data, headers=headers)
    status = connection.getresponse().status
    connection.close()
    assert status == 200


def use_environment(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """These settings for object stores and no others, neither of this machine's user."""
    import os

    for name in list(os.environ):
        if re.match(r"AWS_|AZURE_|GOOGLE_|STORAGE_EMULATOR|HF_|HUGGING|.*_PROXY$", name, flags=re.IGNORECASE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
