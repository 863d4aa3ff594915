"""One chart as the page draws it: curves with few enough points, ticks at round numbers, places in a picture.

Here: series, thinning, scales, SVG paths.
Elsewhere: which charts there are (page.py), what they look like (metrics.html.j2).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26
MOST_POINTS = 500
COLOURS = ("#2456c8", "#d9480f", "#2b8a3e", "#9c36b5", "#c2255c", "#0b7285", "#846200", "#5c5f66")

Point = tuple[float, float]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One curve: its name and points (step, value), in order of steps."""

    name: str
    points: tuple[Point, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A series as it is drawn: an SVG path for every stretch, the places of its points, the newest value as text."""

    name: str
    colour: str
    dash: str
    path: str
    dots: tuple[Point, ...]
    newest: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart to draw. `readings` holds (x in the picture, step, values as text by series) for the pointer."""

    title: str
    about: str
    lines: tuple[Line, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    readings: tuple[tuple[float, int, tuple[str, ...]], ...]


def make_chart(title: str, about: str, series: Sequence[Series]) -> Chart | None:
    """The chart of what is finite in some series; none where nothing is."""
    thinned = [Series(name=each.name, points=thin(finite(each.points))) for each in series]
    shown = [each for each in thinned if each.points]
    if not shown:
        return None
    steps = [step for each in shown for step, _ in each.points]
    values = [value for each in shown for _, value in each.points]
    ticks = round_ticks(min(values), max(values))
    marks = round_ticks(min(steps), max(steps), whole=True)
    across = (min(steps), max(max(steps), min(steps) + 1))
    upright = (min(ticks[0], min(values)), max(ticks[-1], max(values)))
    place = Place(across=across, upright=upright)
    return Chart(
        title=title,
        about=about,
        lines=tuple(_line(at, each, place) for at, each in enumerate(shown)),
        rows=tuple((place.y(tick), show_number(tick)) for tick in ticks),
        columns=tuple((place.x(mark), f"{mark:,.0f}") for mark in marks if across[0] <= mark <= across[1]),
        readings=_readings(shown, place),
    )


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where steps and values lie in the picture, in its units from the left and from the top."""

    across: Point
    upright: Point

    def x(self, step: float) -> float:
        """The place of a step."""
        low, high = self.across
        return round(LEFT + (step - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """The place of a value."""
        low, high = self.upright
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def finite(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points whose value is a finite number."""
    return tuple((step, value) for step, value in points if math.isfinite(value))


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most `most` points: means of equal stretches, at their last step."""
    if len(points) <= most:
        return tuple(points)
    cuts = [len(points) * at // most for at in range(most + 1)]
    stretches = [points[start:stop] for start, stop in pairwise(cuts)]
    return tuple((part[-1][0], sum(value for _, value in part) / len(part)) for part in stretches)


def round_ticks(low: float, high: float, *, whole: bool = False) -> tuple[float, ...]:
    """Four to eight round numbers, the first not above `low`, the last not under `high`; `whole`: integers."""
    if high <= low:
        room = abs(low) / 2 or 1.0
        low, high = (low, low + 1) if whole else (low - room, high + room)
    raw = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(at * step for at in range(first, last + 1))


def show_number(value: float) -> str:
    """A number to read: four digits at most, large ones with a letter."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= unit * (10 if letter == "k" else 1):
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def _line(at: int, series: Series, place: Place) -> Line:
    dots = tuple((place.x(step), place.y(value)) for step, value in series.points)
    return Line(
        name=series.name,
        colour=COLOURS[at % len(COLOURS)],
        dash="" if at < len(COLOURS) else "5 3",
        path="M" + " L".join(f"{x} {y}" for x, y in dots),
        dots=dots if len(dots) <= 40 else (),
        newest=show_number(series.points[-1][1]),
    )


def _readings(shown: Sequence[Series], place: Place) -> tuple[tuple[float, int, tuple[str, ...]], ...]:
    """What every series says at, or last said before, each step of the one with the most points."""
    steps = [step for step, _ in max((each.points for each in shown), key=len)]
    return tuple((place.x(step), round(step), tuple(_at(each, step) for each in shown)) for step in steps)


def _at(series: Series, step: float) -> str:
    number = bisect_right(series.points, step, key=lambda point: point[0])
    return show_number(series.points[number - 1][1]) if number else ""
