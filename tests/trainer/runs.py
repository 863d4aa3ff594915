"""What several tests of runs do with events and warnings: nothing, or stop as if the process had crashed."""

from __future__ import annotations


class Stop(Exception):
    """Stands for a crash between two steps."""


def quiet(event: object) -> None:
    """Report nothing, warn nobody."""
