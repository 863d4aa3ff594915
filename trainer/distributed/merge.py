"""The figures of a step, of all ranks as one.

Here: which are summed, which are those of the slowest rank.
Elsewhere: making them (figures.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SLOWEST = {"data_wait", "seconds", "source_epochs", "peak_memory_bytes"}
MEANS = {"padding", "pack_fill", "mfu"}
BEHIND = {"epoch"}
COMMON = {"tokens", "samples"}


def merge_figures(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all ranks as those of the run: counts and speeds summed, shares averaged, times of the slowest rank.

    `tokens` and `samples` are of all ranks already.
    """
    if len(entries) == 1:
        return entries[0]
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return {name: _merged(name, [entry[name] for entry in entries if name in entry]) for name in names}


def _merged(name: str, values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        keys = list(dict.fromkeys(key for value in values for key in value))
        return {key: _merged(name, [value[key] for value in values if key in value]) for key in keys}
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    if name in COMMON or not isinstance(values[0], int | float):
        return values[0]
    if name in MEANS:
        return sum(values) / len(values)
    if name in SLOWEST:
        return max(values)
    return min(values) if name in BEHIND else sum(values)
