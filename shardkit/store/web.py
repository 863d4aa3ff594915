"""GET requests over http and https whose redirects are followed by hand, so that each step can be checked.

Here: connections of this process, proxies, redirects, which credentials go to whom.
Elsewhere: what an answer must look like (http.py), which addresses data may point to (addresses.py).
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import StorageFailed
from shardkit.store.addresses import Guard
from shardkit.store.patience import Again
from shardkit.store.scrub import scrub

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "shardkit"}
MOST_REDIRECTS = 5
CONNECTIONS = 32
SMALL_BODY_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_asking: ContextVar[bool] = ContextVar("asking", default=False)
_NO_RETRIES = urllib3.Retry(total=None, connect=0, read=0, redirect=0, status=0, other=0)


class Answer(NamedTuple):
    """An answer, the URL that gave it, and the tag of the file that a redirect on the way named (the Hub does)."""

    response: BaseHTTPResponse
    url: str
    linked_tag: str


class Web:
    """Connections of one store, opened lazily, in each process its own.

    `secret_headers` (an Authorization) go to the origin of the URL that was asked for, and to no other.
    """

    def __init__(self, secret_headers: Mapping[str, str] | None = None, guard: Guard | None = None) -> None:
        self.secret_headers = dict(secret_headers or {})
        self._guard = guard
        self._pools: dict[int, dict[str, urllib3.PoolManager]] = {}
        self._lock = threading.Lock()

    def get(self, url: str, headers: Mapping[str, str], silence_seconds: float, *, with_secrets: bool = True) -> Answer:
        """The answer behind at most 5 redirects; its body is not read yet.

        Raises UrlRefused (by the guard), StorageFailed (a redirect to another scheme), Again, urllib3's HTTPError.
        """
        sent = {**HEADERS, **(self.secret_headers if with_secrets else {}), **headers}
        linked_tag = ""
        for _ in range(MOST_REDIRECTS + 1):
            if self._guard is not None:
                self._guard.check(url)
            answer = self._send(url, sent, silence_seconds)
            location = answer.headers.get("Location") if answer.status in _REDIRECTS else None
            if location is None:
                return Answer(answer, url, linked_tag)
            linked_tag = linked_tag or answer.headers.get("X-Linked-ETag", "")
            _let_go(answer)
            target = _target(url, location)
            if origin(target) != origin(url):
                sent = {name: value for name, value in sent.items() if name not in self.secret_headers}
            url = target
        raise Again(f"found more than {MOST_REDIRECTS} redirects")

    def _send(self, url: str, headers: Mapping[str, str], silence_seconds: float) -> BaseHTTPResponse:
        asking = _asking.set(True)
        try:
            return self._pool(url).request(
                "GET",
                url,
                headers=headers,
                timeout=urllib3.Timeout(connect=silence_seconds, read=silence_seconds),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=_NO_RETRIES,
            )
        finally:
            _asking.reset(asking)

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = "" if self._guard is not None else find_proxy(url)  # a proxy would resolve found hosts unchecked
        with self._lock:
            if os.getpid() not in self._pools:
                self._pools = {os.getpid(): {}}
            pools = self._pools[os.getpid()]
            if proxy not in pools:
                pools[proxy] = _proxied(proxy) if proxy else urllib3.PoolManager(maxsize=CONNECTIONS)
                if self._guard is not None:
                    pools[proxy].pool_classes_by_scheme = self._guard.pool_classes()
            return pools[proxy]


def find_proxy(url: str) -> str:
    """The proxy that the environment names for a URL (https_proxy, no_proxy, …); none for this machine itself."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    proxies = getproxies_environment()
    found = proxies.get(parts.scheme.lower()) or proxies.get("all") or ""
    return found if not found or "://" in found else f"http://{found}"


def _proxied(proxy: str) -> urllib3.PoolManager:
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StorageFailed(f"cannot use the proxy {scrub(proxy)} of the environment: wanted http://host:port")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    return urllib3.ProxyManager(place, maxsize=CONNECTIONS, proxy_headers=headers)


class _WithoutQueries(logging.Filter):
    """Where a program logs everything, urllib3 writes each request with its query: for ours, without it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _asking.get() and isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQueries())


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL: who may see the credentials meant for it."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    try:
        port = parts.port
    except ValueError:
        port = -1
    return scheme, (parts.hostname or "").lower(), port or {"http": 80, "https": 443}.get(scheme, 0)


def reason_of(error: BaseException) -> str:
    """What went wrong, without the URL that urllib3 puts into its messages (it may hold secrets)."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    cause: Any = error.__cause__ or error.__context__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__


def is_unreachable(error: BaseException) -> bool:
    """Whether there was no server, or proxy, to talk to: no name, no route, nobody listening."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        error = error.reason
    if isinstance(error, ProxyError):
        error = error.original_error
    return isinstance(error, (NewConnectionError, NameResolutionError, ConnectTimeoutError))


def retry_after(answer: BaseHTTPResponse) -> float:
    """The seconds for which a busy server asks to be left alone; 0 where it names none.

    It says so in Retry-After, or, as the Hub does, in RateLimit: `"resolvers";r=0;t=55` (a draft of the IETF).
    """
    said = answer.headers.get("Retry-After", "").strip()
    if not said and answer.status == 429:
        reset = re.search(r"\bt\s*=\s*([0-9]{1,8})\b", answer.headers.get("RateLimit", ""))
        said = reset[1] if reset else ""
    return float(said) if said.isascii() and said.isdigit() and len(said) < 9 else 0.0


def _let_go(answer: BaseHTTPResponse) -> None:
    """Keep the connection of a redirect for the next request, unless reading its body to the end may take long."""
    said = answer.headers.get("Content-Length", "")
    if said.isdigit() and int(said) <= SMALL_BODY_BYTES:
        answer.drain_conn()
        answer.release_conn()
    else:
        answer.close()


def _target(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
    except ValueError:
        raise StorageFailed(f"cannot read {scrub(url)}: found a redirect to a malformed URL") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise StorageFailed(
            f"cannot read {scrub(url)}: found a redirect to {scrub(target)[:200]}, wanted one to http(s); check the URL"
        )
    return target
