"""Figures and ratios as text, as Markdown and as JSON.

Here: what README shows.
Elsewhere: measuring (measure.py), ratios (ratios.py).
"""

from __future__ import annotations

import json

from tools.bench.measure import Figure
from tools.bench.ratios import BESIDE, GOALS, ratios

HEADS = ("workload", "task", "side", "median", "rounds", "")
TASKS = {
    "write": "write", "publish": "full publish", "read": "read raw, one process",
    "decode": "decode to uint8, two workers", "resume": "process start to first batch of a resume at half an epoch",
    "http": "decode to uint8, two workers, 20 ms away",
}  # fmt: skip


def as_markdown(figures: list[Figure], *, padded: bool = False) -> str:
    """The ratios with their goals, then a row for each figure; `padded` for reading in a terminal."""
    rows: list[tuple[str, ...]] = [
        (one.workload, TASKS[one.task], one.side, _shown(one), _rounds(one), one.about) for one in figures
    ]
    return "\n\n".join((_table(("ratio", "found", "goal"), _goals(figures), padded), _table(HEADS, rows, padded)))


def as_json(figures: list[Figure]) -> str:
    """One object: every ratio by its name, and all figures with their rounds (samples a second; resume: seconds)."""
    return json.dumps({**ratios(figures), "figures": [figure._asdict() for figure in figures]})


def _goals(figures: list[Figure]) -> list[tuple[str, ...]]:
    found = ratios(figures)
    rows: list[tuple[str, ...]] = []
    for goal in (*GOALS, *BESIDE):
        value = found[goal.name]
        wanted = f"{'at most' if goal.at_most else 'at least'} {goal.goal}" if goal.goal else ""
        rows.append((goal.name, "not measured" if value is None else f"{value:.2f}", wanted))
    return rows


def _shown(figure: Figure) -> str:
    return f"{figure.value:.2f} s" if figure.task == "resume" else f"{figure.value:,.0f}/s"


def _rounds(figure: Figure) -> str:
    return " ".join(f"{one:.2f}" if figure.task == "resume" else f"{one:,.0f}" for one in figure.rounds)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], padded: bool) -> str:
    widths = [max(map(len, column)) if padded else 0 for column in zip(heads, *rows, strict=True)]
    lines = [_line(heads, widths), "|" + "|".join("-" * (width + 2 if padded else 3) for width in widths) + "|"]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
