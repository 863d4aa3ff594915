"""The ratios that are promised, from the figures of one run.

Here: which figure over which, and the goal of each.
Elsewhere: measuring (measure.py), showing (table.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tools.bench.measure import Figure
from tools.bench.sides import BARE, GIVEN, OURS, WITH_TORCH

MDS, WEBDATASET, LITDATA = "MosaicML MDS", "webdataset", "LitData"
Values = dict[tuple[str, str, str], float]


class Goal(NamedTuple):
    """A ratio: its name, how it follows from the figures, how large it is to be (`at_most`: how small)."""

    name: str
    of: Callable[[Values], float]
    goal: float
    at_most: bool = False


def _faster(workload: str, task: str, than: str, ours: str = OURS) -> Callable[[Values], float]:
    return lambda values: values[workload, task, ours] / values[workload, task, than]


def _best_decoder(values: Values) -> float:
    return max(value for (_, task, side), value in values.items() if task == "decode" and side != OURS)


GOALS = (
    Goal("write_a_vs_mds", _faster("A", "write", MDS), 2.0),
    Goal("write_b_vs_mds", _faster("B", "write", MDS), 0.8),
    Goal("write_b_vs_webdataset", _faster("B", "write", WEBDATASET), 8.0),
    Goal("publish_vs_bare", _faster("A", "publish", BARE), 0.6),
    Goal("read_a_vs_litdata", _faster("A", "read", LITDATA), 1.3),
    Goal("read_b_vs_litdata", _faster("B", "read", LITDATA), 1.8),
    Goal("decode_vs_best_peer", lambda values: values["A", "decode", OURS] / _best_decoder(values), 1.3),
    Goal("resume_vs_litdata", _faster("A", "resume", LITDATA), 0.75, at_most=True),
    Goal("http_vs_local", lambda values: values["A", "http", "http"] / values["A", "http", "local"], 0.8),
)
BESIDE = (
    Goal("write_b_from_records_vs_mds", _faster("B", "write", MDS, GIVEN), 0.0),
    Goal("resume_with_torch_vs_litdata", _faster("A", "resume", LITDATA, WITH_TORCH), 0.0),
)
"""Beside the promised ones: with the JSON encoded and the keys taken of the records' parts, as a build does; with torch
imported first, which LitData cannot do without and our reading can.
"""


def ratios(figures: list[Figure]) -> dict[str, float | None]:
    """All of them by name; None where a side was not measured."""
    values: Values = {(figure.workload, figure.task, figure.side): figure.value for figure in figures}
    return {goal.name: _or_none(goal, values) for goal in (*GOALS, *BESIDE)}


def _or_none(goal: Goal, values: Values) -> float | None:
    try:
        return round(goal.of(values), 3)
    except (KeyError, ValueError):
        return None
