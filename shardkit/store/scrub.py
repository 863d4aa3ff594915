"""URLs without what may be secret in them, for messages, logs and records.

Here: that alone.
Elsewhere: reading from URLs (urls.py, http.py).
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def scrub(url: str) -> str:
    """A URL without user, password, query and fragment, which may hold secrets."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
