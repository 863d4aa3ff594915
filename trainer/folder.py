"""A run's folder: the names of its records, its lock, the held-out figures in it.

Here: locking, reading what was measured.
Elsewhere: checkpoints, lines and pages in it (checkpoint, metrics, eval), the run that writes them (run.py).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardkit import ShardkitError, SpecError

HELD_OUT, SPEC = "held_out.json", "run.json"
CHAIN = "chain.json"
"""In the folder of a chain of stages, each of which is a run in a folder of its own."""


class RunLocked(ShardkitError):
    """Another process trains into the same folder."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where it is missing. Raises SpecError (not writable), RunLocked."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SpecError(f"cannot write to the run's folder {out}: {error.strerror}; give another --out") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RunLocked(f"{out} is being trained into by another process; wait for it or give another --out") from None
    finally:
        os.close(descriptor)


def check_kind(out: Path, *, chain: bool) -> None:
    """Refuse a folder of a run for a chain of stages, and the other way round: `eval` and `export` would find both.

    Raises SpecError.
    """
    other, found = (SPEC, "a run without stages") if chain else (CHAIN, "a chain of stages")
    if (out / other).is_file():
        raise SpecError(f"{out} holds {found} ({other}); give another --out")


def read_held_out(out: Path) -> dict[str, Any]:
    """The held-out figures by name, as held_out.json has them; none where it is missing or torn."""
    try:
        found = json.loads((out / HELD_OUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
