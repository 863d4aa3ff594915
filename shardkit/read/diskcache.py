"""Where copies and indexes of remote data are kept on this machine.

Here: the folder.
Elsewhere: indexes of tars that others made (foreign.py).
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(given: str | Path | None = None) -> Path:
    """The folder of caches: as given, else $SHARDKIT_CACHE, $XDG_CACHE_HOME/shardkit, ~/.cache/shardkit."""
    named = given or os.environ.get("SHARDKIT_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache").absolute() / "shardkit"
