"""Where the Hugging Face Hub is and who we are there, as its own tools find it.

Here: HF_ENDPOINT, HF_TOKEN, the token's file, read anew in every process and kept in no state.
Elsewhere: using them (hub.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from shardkit.errors import SpecError

ENDPOINT = "https://huggingface.co"
_TRUE = ("1", "on", "yes", "true")


def find_endpoint(env: Mapping[str, str] | None = None) -> str:
    """The Hub's address, by default the public one. Raises SpecError for one that is no http(s) URL."""
    env = os.environ if env is None else env
    endpoint = (env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise SpecError("HF_ENDPOINT is no address of a Hub; wanted https://host without login and query, or unset it")
    return endpoint


def find_token(env: Mapping[str, str] | None = None) -> str:
    """The user's token: HF_TOKEN, else the file that `hf auth login` writes; empty where there is none."""
    env = os.environ if env is None else env
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := _clean(env.get(name, "")):
            return token
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _TRUE:
        return ""
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/")) / ".cache")
    home = Path(env.get("HF_HOME") or cache / "huggingface")
    try:
        return _clean(Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeError):
        return ""


def is_offline(env: Mapping[str, str] | None = None) -> bool:
    """Whether the user forbids asking the Hub."""
    env = os.environ if env is None else env
    return env.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def _clean(token: str) -> str:
    """The token without the line's end; nothing where it could not stand in a header."""
    token = token.strip()
    return token if token.isascii() and token.isprintable() else ""
