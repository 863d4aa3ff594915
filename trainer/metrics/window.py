"""Several steps as one line: sums, means and last values; how long steps waited for data of late.

Here: joining lines, the mean and the 99th percentile of waiting.
Elsewhere: the figures of one step (figures.py), writing (recorder.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

LAST = {"step", "tokens", "samples", "epoch", "source_epochs", "learning_rate", "peak_memory_bytes", "skipped",
        "overflows", "loss_scale"}  # fmt: skip
SUMS = {
    "seconds", "read", "left_out", "cut_tokens", "audio_cut", "answer_tokens", "source_tokens", "step_tokens",
    "step_samples", "damaged", "checkpoint_stall", "evaluation_seconds",
}  # fmt: skip
BY_TIME = {"tokens_per_second", "samples_per_second", "data_wait", "tflops", "mfu"}
BY_TOKENS = {"loss_by_modality": "answer_tokens", "loss_by_source": "source_tokens"}


class Waiting:
    """The last `size` steps' waiting for data, as shares of their time."""

    def __init__(self, size: int) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=size)

    def add(self, entry: dict[str, Any]) -> dict[str, float]:
        """Take one step in; `data_wait_mean` of their time together and `data_wait_p99` of the steps, nearest rank."""
        if "data_wait" not in entry or "seconds" not in entry:
            return {}
        self._recent.append((entry["data_wait"] * entry["seconds"], entry["seconds"]))
        shares = sorted(waited / seconds for waited, seconds in self._recent)
        total = sum(seconds for _, seconds in self._recent)
        return {
            "data_wait_mean": sum(waited for waited, _ in self._recent) / total,
            "data_wait_p99": shares[math.ceil(0.99 * len(shares)) - 1],
        }


def join(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lines of consecutive steps as one, numbers on a device fetched. One line stays as it is.

    Counts are added, losses of parts weighted by their tokens, rates by time; other numbers are means over the steps
    that have them, and what is no number is the last one's. `joined` says how many steps stand in it.
    """
    if len(entries) == 1:
        return {name: _fetched(value) for name, value in entries[0].items()}
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return {name: _joined(name, entries) for name in names} | {"joined": len(entries)}


def _joined(name: str, entries: Sequence[dict[str, Any]]) -> Any:
    having = [entry for entry in entries if name in entry]
    values = [_fetched(entry[name]) for entry in having]
    if name in SUMS:
        return _sum(values)
    if name in BY_TOKENS:
        return _weighted(values, [entry[BY_TOKENS[name]] for entry in having])
    if name in BY_TIME:
        times = [entry["seconds"] for entry in having]
        return sum(value * time for value, time in zip(values, times, strict=True)) / sum(times)
    if name in LAST or not all(type(value) in (int, float) for value in values):
        return values[-1]
    return sum(values) / len(values)


def _sum(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: sum(value.get(key, 0) for value in values) for key in keys}
    if isinstance(values[0], list):
        return [each for value in values for each in value]
    return sum(values)


def _weighted(values: Sequence[dict[str, float]], weights: Sequence[dict[str, int]]) -> dict[str, float]:
    """Means by key, weighted by the counts under the same key."""
    result = {}
    for key in sorted({key for value in values for key in value}):
        pairs = [(value[key], weight[key]) for value, weight in zip(values, weights, strict=True) if key in value]
        result[key] = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    return result


def _fetched(value: Any) -> Any:
    """A number that may still lie on the device, as a plain one."""
    if isinstance(value, dict):
        return {name: _fetched(each) for name, each in value.items()}
    return value.item() if hasattr(value, "item") else value
