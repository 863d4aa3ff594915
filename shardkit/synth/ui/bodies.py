"""How each body of a page is painted.

Here: one painter for each kind of body, in a table.
Elsewhere: shapes and text (paint), the same bodies as HTML (markup).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardkit.synth.ui.page import Dashboard, Login, Pricing, Products, Settings, Table
from shardkit.synth.ui.paint import HEADER, HEIGHT, WIDTH, Canvas

LEFT, RIGHT, TOP, BOTTOM, GAP = 20, WIDTH - 20, HEADER + 20, HEIGHT - 20, 14


def spread(count: int) -> list[tuple[int, int]]:
    """Left and right edges of `count` columns of equal width."""
    width = (RIGHT - LEFT - GAP * (count - 1)) // count
    return [(LEFT + at * (width + GAP), LEFT + at * (width + GAP) + width) for at in range(count)]


def _login(canvas: Canvas, body: Login) -> None:
    left, right = WIDTH // 2 - 120, WIDTH // 2 + 120
    height = 24 + 54 * len(body.fields) + 44
    top = TOP + (BOTTOM - TOP - height) // 2
    canvas.box((left - 24, top, right + 24, top + height), "panel", line="line", radius=10)
    y = top + 22
    for label in body.fields:
        canvas.text((left, y), label, 12, fill="faint")
        canvas.box((left, y + 10, right, y + 36), "ground", line="line", radius=4)
        y += 54
    canvas.button((left, y - 4, right, y + 28), body.button)


def _dashboard(canvas: Canvas, body: Dashboard) -> None:
    for (left, right), (name, value) in zip(spread(len(body.cards)), body.cards, strict=True):
        canvas.box((left, TOP, right, TOP + 76), "panel", line="line")
        canvas.text((left + 14, TOP + 22), name, 13, fill="faint")
        canvas.text((left + 14, TOP + 50), value, 24)
    top = TOP + 76 + GAP
    canvas.box((LEFT, top, RIGHT, BOTTOM), "panel", line="line")
    step = (RIGHT - LEFT - 32) // len(body.bars)
    for at, percent in enumerate(body.bars):
        left = LEFT + 16 + at * step
        canvas.box(
            (left, BOTTOM - 14 - percent * (BOTTOM - top - 34) // 100, left + step - 8, BOTTOM - 14), "accent", radius=2
        )


def _table(canvas: Canvas, body: Table) -> None:
    height = 36
    bottom = TOP + height * (len(body.rows) + 1)
    canvas.box((LEFT, TOP, RIGHT, bottom), "panel", line="line")
    step = (RIGHT - LEFT) // len(body.columns)
    for at, column in enumerate(body.columns):
        canvas.text((LEFT + 16 + at * step, TOP + height // 2), column, 14, fill="faint")
    for number, row in enumerate(body.rows, start=1):
        y = TOP + number * height
        canvas.line((LEFT, y), (RIGHT, y))
        for at, cell in enumerate(row):
            canvas.text((LEFT + 16 + at * step, y + height // 2), cell, 14)


def _pricing(canvas: Canvas, body: Pricing) -> None:
    for (left, right), (name, price, features) in zip(spread(len(body.plans)), body.plans, strict=True):
        centre = (left + right) // 2
        canvas.box((left, TOP, right, BOTTOM), "panel", line="line", radius=10)
        canvas.text((centre, TOP + 28), name, 18, anchor="mm")
        canvas.text((centre, TOP + 66), f"${price}", 30, anchor="mm")
        for at, feature in enumerate(features):
            canvas.text((centre, TOP + 108 + 26 * at), feature, 13, fill="faint", anchor="mm")
        canvas.button((left + 16, BOTTOM - 48, right - 16, BOTTOM - 16), "Choose")


def _settings(canvas: Canvas, body: Settings) -> None:
    height = 42
    canvas.box((LEFT, TOP, RIGHT, TOP + height * len(body.toggles)), "panel", line="line")
    for at, (label, on) in enumerate(body.toggles):
        y = TOP + height * at + height // 2
        if at:
            canvas.line((LEFT, y - height // 2), (RIGHT, y - height // 2))
        canvas.text((LEFT + 16, y), label, 15)
        canvas.box((RIGHT - 58, y - 11, RIGHT - 16, y + 11), "accent" if on else "line", radius=11)
        canvas.dot((RIGHT - 27 if on else RIGHT - 47, y), 8, "panel")
    top = TOP + height * len(body.toggles) + GAP
    canvas.button((LEFT, top, LEFT + 130, top + 34), body.button)


def _products(canvas: Canvas, body: Products) -> None:
    across = 3 if len(body.goods) != 4 else 2
    down = -(-len(body.goods) // across)
    height = (BOTTOM - TOP - GAP * (down - 1)) // down
    for at, (name, price) in enumerate(body.goods):
        left, right = spread(across)[at % across]
        top = TOP + at // across * (height + GAP)
        canvas.box((left, top, right, top + height), "panel", line="line", radius=8)
        canvas.box((left + 12, top + 12, right - 12, top + height - 44), "ground", radius=4)
        canvas.dot(((left + right) // 2, top + (height - 32) // 2), min(26, (height - 70) // 2), "accent")
        canvas.text((left + 14, top + height - 22), name, 15)
        canvas.text((right - 14, top + height - 22), f"${price}", 15, fill="faint", anchor="rm")


PAINTERS: dict[type, Callable[[Canvas, Any], None]] = {
    Login: _login,
    Dashboard: _dashboard,
    Table: _table,
    Pricing: _pricing,
    Settings: _settings,
    Products: _products,
}
