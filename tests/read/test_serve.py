"""The folder server: ranges to the byte, tags that change with the file, nothing outside of the folder."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.errors import SpecError, StorageFailed
from shardkit.read.serve import FolderServer, serve_folder

DATA = bytes(range(256)) * 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FolderServer]:
    (tmp_path / "secret").write_bytes(b"no")
    folder = tmp_path / "served"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "data.tar").write_bytes(DATA)
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with serve_folder(folder) as running:
        yield running


def ask(server: FolderServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.server_address[1]), timeout=5)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return found


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=1270-", 1270, 1280), ("bytes=-7", 1273, 1280),
     ("bytes=1279-99999", 1279, 1280), ("bytes=-99999", 0, 1280)],
)  # fmt: skip
def test_ranges_are_exact(server: FolderServer, asked: str, start: int, stop: int) -> None:
    status, body, headers = ask(server, "/a%20b/data.tar", Range=asked)
    assert (status, body) == (206, DATA[start:stop])
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/1280"


def test_whole_files_heads_and_ranges_that_do_not_count(server: FolderServer) -> None:
    status, body, headers = ask(server, "/a%20b/data.tar?token=x")
    assert (status, body, headers["content-length"], headers["accept-ranges"]) == (200, DATA, "1280", "bytes")
    status, body, headers = ask(server, "/a%20b/data.tar", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", "1280")
    assert ask(server, "/empty")[:2] == (200, b"")
    for odd in ("bytes=1-2,5-6", "lines=1-2", "bytes=a-b", "bytes=-"):
        assert ask(server, "/a%20b/data.tar", Range=odd)[:2] == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=1280-", "bytes=5-4", "bytes=-0"])
def test_ranges_outside_of_the_file_are_416(server: FolderServer, asked: str) -> None:
    status, body, headers = ask(server, "/a%20b/data.tar", Range=asked)
    assert (status, body, headers["content-range"]) == (416, b"", "bytes */1280")


def test_tag_changes_with_the_file_and_if_range_takes_it(server: FolderServer) -> None:
    tag = ask(server, "/a%20b/data.tar")[2]["etag"]
    assert tag.startswith('"') and ask(server, "/a%20b/data.tar")[2]["etag"] == tag
    assert ask(server, "/a%20b/data.tar", Range="bytes=1-2", If_Range=tag)[:2] == (206, DATA[1:3])
    os.utime(server.folder / "a b" / "data.tar", ns=(1, 1))
    assert ask(server, "/a%20b/data.tar")[2]["etag"] != tag
    assert ask(server, "/a%20b/data.tar", Range="bytes=1-2", If_Range=tag)[:2] == (200, DATA)


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/%2e%2e/secret", "/a%20b/../../secret", "//secret", "/", "/a%20b", "/a%20b/", "/link",
     "/linked/secret", "/pipe", "/a%20b%2f..%2f..%2fsecret", "/..%5csecret", "/empty%00", "/%ff", "/nothing",
     "/empty/x"],
)  # fmt: skip
def test_nothing_but_regular_files_of_the_folder_is_served(server: FolderServer, path: str) -> None:
    assert ask(server, path)[:2] == (404, b"")


def test_one_connection_serves_many_requests_and_counts_them(server: FolderServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.server_address[1]), timeout=5)
    for first in range(20):
        connection.request("GET", "/a%20b/data.tar", headers={"Range": f"bytes={first}-{first + 3}"})
        assert connection.getresponse().read() == DATA[first : first + 4]
    sock = connection.sock
    assert sock is not None
    connection.close()
    assert [request.offset for request in server.requests] == list(range(20))
    assert {request.path for request in server.requests} == {"a b/data.tar"}


def test_other_methods_are_refused(server: FolderServer) -> None:
    assert ask(server, "/empty", "PUT")[0] == 501
    assert ask(server, "/empty", "DELETE")[0] == 501


def test_a_missing_folder_and_a_taken_port_are_clear_errors(server: FolderServer, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="found no folder"), serve_folder(tmp_path / "missing"):
        pass
    with (
        pytest.raises(StorageFailed, match="take another port"),
        serve_folder(tmp_path, port=int(server.server_address[1])),
    ):
        pass
