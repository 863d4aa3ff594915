"""URLs found in data reach public http(s) servers and nothing else; URLs of the user are not restricted."""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import StorageFailed, UrlRefused
from shardkit.store import addresses
from shardkit.store.addresses import Guard
from shardkit.store.guard import is_found_url, open_found
from shardkit.store.http import HttpStore
from shardkit.store.patience import Patience
from tests.store.flaky import Flaky, flaky_server

QUICK = Patience(deadline_seconds=5, attempts=3, first_pause_seconds=0.01)
PUBLIC = "93.184.216.34"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Flaky]:
    (tmp_path / "file").write_bytes(b"0123456789")
    with flaky_server(tmp_path) as running:
        yield running


def port_of(server: Flaky) -> int:
    return int(server.server_address[1])


class Names:
    """Stands in for the name service, so that names lead where a test wants; sockets stay real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leads: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in self.leads:
            return self._real(host, port, *args, **more)
        self.asked.append(name)
        text = self.leads[name].pop(0) if len(self.leads[name]) > 1 else self.leads[name][0]
        return [info for one in text.split() for info in self._real(one, port, type=socket.SOCK_STREAM)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def as_if_public(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let these addresses pass as public ones: a test has no others to listen on."""
    real = Guard.check_address

    def check_address(self: Guard, host: str, text: str) -> None:
        if text not in hosts:
            real(self, host, text)

    monkeypatch.setattr(Guard, "check_address", check_address)


INSIDE = (
    "127.0.0.1", "127.1.2.3", "localhost", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "198.18.0.1", "[::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[2002:c0a8:101::1]",
    "[::7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "LOCALHOST", "localhost.",
    "[fdff::5efe:10.0.0.1]", "[2600::5efe:10.0.0.1]", "[2600::200:5efe:192.168.0.1]",
)  # fmt: skip
NEVER = (
    "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "192.0.0.1", "192.0.2.1", "192.88.99.1", "[::]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
    "[2001:0:7f00:1::]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]",
)  # fmt: skip
SPELLINGS = (
    "0x7f.1",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "127.0.0.1.",
    "0",
    "0x0",
)
PLAINLY_WRONG = (
    "file:///etc/passwd", "ftp://host/a", "gopher://host/a", "pipe:cat", "s3://bucket/a", "hf://datasets/o/n/a",
    "//host/a", "http:///a", "http://user:canary@host/a", "http://user@host/a", "http://host\\@127.0.0.1/a",
    "http://ho st/a", "http://host/a\nHost: b", "http://[::1/a", "http://host:99999/a", "", "javascript:1",
    "/etc/passwd", "http://①②⑦.⓪.⓪.①/a", "http://127。0。0。1/a", "http://ⓛocalhost/a", "http://[::1%25lo]/a",
    "http://127.0.0.1%2eexample.com/a", "http://%31%32%37.0.0.1/a", "http://localhost:9@example.com/a",
)  # fmt: skip


@pytest.mark.parametrize("host", [*INSIDE, *NEVER, *SPELLINGS])
def test_private_and_reserved_addresses_are_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(UrlRefused, match="found in data"):
        open_found(f"http://{host}:9/file")[0].read_range("file", 0, 1)


@pytest.mark.parametrize("host", [*NEVER, *SPELLINGS])
def test_some_addresses_are_refused_also_with_permission(host: str) -> None:
    with pytest.raises(UrlRefused):
        open_found(f"http://{host}:9/file", allow_private=True)[0].read_range("file", 0, 1)


@pytest.mark.parametrize("host", INSIDE)
def test_permission_opens_private_addresses_only(host: str) -> None:
    if "localhost" not in host.lower():
        Guard(allow_private=True).check_address(host, host.strip("[]"))


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"])
def test_public_addresses_pass(address: str) -> None:
    Guard().check_address("host", address)


@pytest.mark.parametrize("url", PLAINLY_WRONG)
def test_other_schemes_logins_and_malformed_urls_are_refused_before_anything_is_asked(url: str, names: Names) -> None:
    with pytest.raises(UrlRefused, match="found in data") as caught:
        open_found(url)
    assert "canary" not in str(caught.value)
    assert not is_found_url(url)
    assert names.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1#@example.com/a", "http://example.com?@host/a", "http://host/a/"])
def test_a_found_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused, match="names no file"):
        open_found(url)


def test_the_user_s_own_urls_are_trusted(server: Flaky) -> None:
    assert HttpStore(server.url).read_range("file", 2, 3) == b"234"
    store, name = open_found(f"{server.url}/file", allow_private=True)
    assert store.read_range(name, 2, 3) == b"234"


def test_name_that_leads_inside_is_refused_whatever_else_it_leads_to(names: Names, server: Flaky) -> None:
    for leads in ("127.0.0.1", f"{PUBLIC} 127.0.0.1", "169.254.169.254", "::1", "10.1.1.1"):
        names.leads["found.example"] = [leads]
        with pytest.raises(UrlRefused, match=r"found\.example was found in data and leads to"):
            open_found(f"http://found.example:{port_of(server)}/file")[0].read_range("file", 0, 1)
    assert server.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_used(
    names: Names, server: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name service that answers otherwise the second time is not asked a second time for one connection."""
    as_if_public(monkeypatch, "127.0.0.2")
    names.leads["found.example"] = ["127.0.0.2", "127.0.0.1"]
    used: list[str] = []
    real = addresses.create_connection

    def create_connection(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
        used.append(address[0])
        return real(("127.0.0.1", address[1]), *args, **more)

    monkeypatch.setattr(addresses, "create_connection", create_connection)
    store, name = open_found(f"http://found.example:{port_of(server)}/file")
    assert store.read_range(name, 0, 4) == b"0123"
    assert used == ["127.0.0.2"]
    assert names.asked == ["found.example"]


REDIRECTS = (
    "http://127.0.0.1:{port}/file", "http://169.254.169.254/latest/meta-data/", "http://0x7f.1:{port}/file",
    "http://2130706433:{port}/file", "http://[64:ff9b::7f00:1]:{port}/file", "http://[2002:7f00:1::]:{port}/file",
    "http://user:word@found.example/file", "http://inside.example:{port}/file", "//127.0.0.1:{port}/file",
)  # fmt: skip


@pytest.mark.parametrize("target", REDIRECTS)
def test_each_redirect_is_checked_again(
    names: Names, server: Flaky, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    as_if_public(monkeypatch, "127.0.0.2")
    names.leads |= {"found.example": ["127.0.0.2"], "inside.example": ["127.0.0.1"]}
    with flaky_server(server.root) as inside:
        server.location = target.format(port=port_of(inside))
        server.faults = ["location"] * 10
        monkeypatch.setattr(addresses, "create_connection", to_loopback(addresses.create_connection))
        with pytest.raises(UrlRefused, match="found in data"):
            open_found(f"http://found.example:{port_of(server)}/file")[0].read_range("file", 0, 1)
        assert len(server.requests) == 1
        assert inside.requests == []


def to_loopback(real: Any) -> Any:
    def create_connection(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
        return real(("127.0.0.1" if address[0] == "127.0.0.2" else address[0], address[1]), *args, **more)

    return create_connection


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/a", "s3://bucket/a", "http://[::1/a"])
def test_no_redirect_leaves_http(server: Flaky, target: str) -> None:
    server.location = target
    for store in (HttpStore(server.url, QUICK), open_found(f"{server.url}/file", allow_private=True)[0]):
        server.faults = ["location"]
        with pytest.raises((StorageFailed, UrlRefused), match="redirect"):
            store.read_range("file", 0, 1)
        assert server.faults == []


def test_redirects_without_end_are_given_up(server: Flaky) -> None:
    server.faults = ["redirect"] * 100
    with pytest.raises(StorageFailed, match="more than 5 redirects"):
        HttpStore(server.url, QUICK).read_range("file", 0, 1)


def test_login_is_dropped_when_a_redirect_leaves_its_server(server: Flaky, tmp_path: Path) -> None:
    with flaky_server(tmp_path) as other:
        server.location = f"{other.url}/file"
        server.faults = ["location", "location"]
        store = HttpStore(f"http://user:canary@127.0.0.1:{port_of(server)}/?token=canary", QUICK)
        assert store.read_range("file", 0, 3) == b"012"
        assert "authorization" in server.headers[0]
        assert "authorization" not in other.headers[0]
        assert "canary" not in str((other.requests, other.headers))
        server.location = "/file"
        assert store.read_range("file", 0, 3) == b"012"
        assert "authorization" in server.headers[-1]


def test_found_url_at_the_document_s_own_origin_uses_its_login_and_nowhere_else(server: Flaky, tmp_path: Path) -> None:
    base = f"http://user:canary@127.0.0.1:{port_of(server)}/data/manifest.json?token=canary"
    for found in (f"{server.url}/file", "/file", "../file"):
        store, name = open_found(found, base)
        assert store.read_range(name, 0, 3) == b"012"
        assert server.headers[-1]["authorization"] == "Basic " + base64.b64encode(b"user:canary").decode()
        assert "canary" not in server.requests[-1][0]
    with flaky_server(tmp_path) as other:
        with pytest.raises(UrlRefused):
            open_found(f"{other.url}/file", base)[0].read_range("file", 0, 1)
        store, name = open_found(f"{other.url}/file", base, allow_private=True)
        assert store.read_range(name, 0, 3) == b"012"
        assert "canary" not in str((other.requests, other.headers))


def test_guard_goes_along_into_other_processes(server: Flaky) -> None:
    store = pickle.loads(pickle.dumps(open_found(f"{server.url}/file")[0]))
    with pytest.raises(UrlRefused):
        store.read_range("file", 0, 1)


def nowhere(*args: Any, **more: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_found_urls_go_through_no_proxy_that_would_resolve_them_unchecked(
    server: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(StorageFailed, match="NameResolutionError"):
        HttpStore("http://found.invalid", QUICK, Guard()).read_range("file", 0, 1)
    assert server.requests == []


def test_name_that_cannot_be_resolved_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(StorageFailed, match="NameResolutionError"):
        HttpStore("http://found.invalid", QUICK, Guard()).read_range("file", 0, 1)
