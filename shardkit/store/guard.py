"""Opening files whose URLs were found in data: in a manifest from elsewhere, or in a sample.

Here: what such a URL may be, relative to the document that named it, and the store that reads it.
Elsewhere: the rules for addresses (addresses.py). URLs that the user typed are trusted: open_store (urls.py).
"""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from shardkit.errors import UrlRefused
from shardkit.store.addresses import Guard
from shardkit.store.http import HttpStore
from shardkit.store.patience import Patience
from shardkit.store.patterns import split_file
from shardkit.store.scrub import scrub
from shardkit.store.web import origin


def open_found(
    url: str, base: str = "", *, allow_private: bool = False, patience: Patience | None = None
) -> tuple[HttpStore, str]:
    """The store of a file whose URL was found in data, and the file's path in it; nothing is resolved or read yet.

    `base` is the URL of the document that named it, as the user gave it. At the same origin (scheme, host, port) the
    file is as trusted as the document and is read with its login. Anywhere else: http(s) without a login of its own,
    and every address, also behind redirects, must be public, unless `allow_private`. `patience` bounds its reads.
    Raises UrlRefused.
    """
    absolute = urljoin(_public(base), url) if base else url
    guard = Guard(allow_private=allow_private)
    guard.check(absolute)
    if urlsplit(absolute).path.endswith("/") or not urlsplit(absolute).path:
        raise UrlRefused(f"{shown(absolute)} was found in data and is not read: it names no file")
    folder, name = split_file(absolute)
    if not base or origin(absolute) != origin(base):
        return HttpStore(folder, patience, guard), name
    login = urlsplit(base).netloc.rpartition("@")[0]
    parts = urlsplit(folder)
    netloc = f"{login}@{parts.netloc}" if login else parts.netloc
    return HttpStore(urlunsplit(parts._replace(netloc=netloc)), patience), name


def is_found_url(text: str) -> bool:
    """Whether a text from data is a URL that `open_found` may open, judged without asking the network."""
    try:
        Guard().check(text)
    except UrlRefused:
        return False
    return True


def shown(url: str) -> str:
    """A found URL for a message: without secrets and control characters, not too long."""
    return quote(scrub(url)[:300], safe=":/?#[]@!$&'()*+,;=%")


def _public(base: str) -> str:
    """The document's URL without login and query: relative URLs must not inherit them."""
    return scrub(base)
