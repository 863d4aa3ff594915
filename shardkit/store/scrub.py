"""URLs without what may be secret in them, for messages, logs and records.

Here: that alone.
Elsewhere: reading from URLs (urls.py, http.py).
"""

from __future__ import annotations

import re


def scrub(url: str) -> str:
    """A URL without user, password, query and fragment, which may hold secrets; also a malformed one, or a pattern."""
    if "://" not in url:
        return url
    return re.sub(r"://[^/?#\s]*@", "://", re.split(r"[?#]", url, maxsplit=1)[0])
