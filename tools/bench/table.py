"""Figures as a Markdown table and as JSON.

Here: what README shows.
Elsewhere: measuring (measure.py).
"""

from __future__ import annotations

import json

from tools.bench.measure import Figure

OURS = "shardkit"
GIVEN = "shardkit, JSON given"
BARE = "bare write + fsync"
PUBLISH = "shardkit, full publish"


def as_markdown(figures: list[Figure]) -> str:
    """A row a side; the ratio is ours to theirs, and for the full publish its own to the bare write."""
    lines = [
        "| workload | task | side | samples/s | shardkit is | durability |",
        "|---|---|---|---:|---:|---|",
    ]
    for figure in figures:
        shown = _ratio(figure, figures)
        about = figure.durability if figure.task == "write" else _checks(figure.side)
        lines.append(f"| {figure.workload} | {figure.task} | {figure.side} | {figure.rate:,.0f} | {shown} | {about} |")
    return "\n".join(lines)


def as_json(figures: list[Figure]) -> str:
    """One object: all figures with their rounds, samples a second."""
    rows = [figure._asdict() | {"ratio": ratio_of(figure, figures)} for figure in figures]
    return json.dumps({"figures": rows})


def ratio_of(figure: Figure, figures: list[Figure]) -> float | None:
    """How many times faster ours is than this side; the full publish is compared with the bare write."""
    if figure.side in (OURS, GIVEN, BARE):
        return None
    base = _rate(figures, figure, BARE if figure.side == PUBLISH else OURS)
    return figure.rate / base if figure.side == PUBLISH else base / figure.rate


def _ratio(figure: Figure, figures: list[Figure]) -> str:
    ratio = ratio_of(figure, figures)
    if ratio is None:
        return ""
    return f"{ratio:.2f}x of bare" if figure.side == PUBLISH else f"{ratio:.1f}x"


def _rate(figures: list[Figure], like: Figure, side: str) -> float:
    return next(
        other.rate for other in figures if (other.workload, other.task, other.side) == (like.workload, like.task, side)
    )


def _checks(side: str) -> str:
    return "every digest checked" if side == OURS else "nothing checked"
