"""Which addresses a URL that was found in data may reach, so that data cannot make us ask inside a network.

Here: schemes, spellings and address ranges; connections that go to the very address that was checked.
Elsewhere: opening such URLs (guard.py), redirects, each of which comes through here (web.py). URLs that the user typed
are trusted and not guarded.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from shardkit.errors import UrlRefused
from shardkit.store.scrub import scrub

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SCHEMES = ("http", "https")

NEVER = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fe80::/10",
        "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""This host, link-local (where clouds keep credentials), reserved, multicast, documentation, tunnels: also with
permission. IANA's special-purpose registries as of 2025."""
PRIVATE = tuple(
    ipaddress.ip_network(net)
    for net in (
        "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15",
        "::1/128", "64:ff9b:1::/48", "fc00::/7",
    )
)  # fmt: skip
"""Loopback, private networks, a provider's own, benchmarks: only with permission."""
EMBEDDING = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b:1::/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""IPv6 ranges that carry an IPv4 address, and how many bits lie behind it: mapped, translated, compatible, 6to4."""
_ISATAP = 0x5EFE


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """The rules for URLs found in data. `allow_private` also lets them reach loopback and private networks."""

    allow_private: bool = False

    def check(self, url: str) -> None:
        """Look at the URL itself: scheme, spelling, credentials. Raises UrlRefused; nothing is resolved yet."""
        if re.search(r"[\x00-\x20\x7f\\]", url):
            raise _refused(url, "found a space, control character or backslash in it")
        try:
            parts = urlsplit(url)
            host, login, _ = parts.hostname, parts.username or parts.password, parts.port
        except ValueError:
            raise _refused(url, "found no well-formed URL") from None
        if parts.scheme.lower() not in SCHEMES:
            raise _refused(url, f"found scheme {parts.scheme[:20]!r}, wanted http or https")
        if not host:
            raise _refused(url, "found no host")
        if not host.isascii() or "%" in host:
            raise _refused(url, "found a host with other characters than a name's; write it in ASCII (xn--…)")
        if login is not None:
            raise _refused(url, "found a user or password in it, which data may not bring")
        _check_spelling(url, host)

    def check_address(self, host: str, text: str) -> None:
        """Look at an address to which a host's name led. Raises UrlRefused."""
        address = ipaddress.ip_address(text.partition("%")[0])
        for one in (address, *embedded(address)):
            if any(one in net for net in NEVER):
                raise UrlRefused(f"{host} was found in data and leads to {address}, which no data may reach")
            if not self.allow_private and any(one in net for net in PRIVATE):
                raise UrlRefused(
                    f"{host} was found in data and leads to {address}, in a private network; if you trust it, name the "
                    "URL yourself, tars by `shardkit index URL... --out FOLDER`"
                )

    def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a host, each checked. Raises UrlRefused when any may not be reached; socket.gaierror."""
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        texts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in texts:
            self.check_address(host, text)
        return texts

    def pool_classes(self) -> dict[str, Any]:
        """Pools for urllib3 whose connections resolve, check and then use that same address (no second look-up)."""
        guard = self

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(guard, self)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _connect(guard, self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


def embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address carries: mapped, translated, compatible, 6to4, ISATAP."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    number = int(address)
    found: list[Address] = [
        ipaddress.IPv4Address(number >> behind & 0xFFFFFFFF)
        for net, behind in EMBEDDING
        if address in net and number > 1
    ]
    if number >> 32 & 0xFFFF == _ISATAP and number >> 48 & 0xFCFF == 0:
        found.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return found


def _check_spelling(url: str, host: str) -> None:
    """Numbers in place of names are taken only as four plain decimals: 0x7f.1, 2130706433 and 017700000001 are not."""
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or not re.fullmatch(r"\d+|0[xX][0-9a-fA-F]*", last):
        return
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise _refused(url, "found an address in an unusual spelling, wanted a name or four decimal numbers") from None


def _connect(guard: Guard, connection: HTTPConnection) -> socket.socket:
    """A socket to the first of the checked addresses that answers."""
    trouble: OSError | None = None
    try:
        texts = guard.addresses(connection.host, connection.port)
    except (socket.gaierror, UnicodeError, LocationParseError) as error:
        cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(type(error).__name__))
        raise NameResolutionError(connection.host, connection, cause) from None
    for text in texts:
        try:
            return create_connection(
                (text, connection.port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            trouble = error
    if isinstance(trouble, TimeoutError):
        raise ConnectTimeoutError(connection, f"connection to {connection.host} timed out") from trouble
    raise NewConnectionError(connection, f"no connection to {connection.host}") from trouble


def _refused(url: str, found: str) -> UrlRefused:
    return UrlRefused(f"{scrub(url)[:300]!r} was found in data and is not read: {found}")
