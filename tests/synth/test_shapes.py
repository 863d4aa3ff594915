"""Tiny pictures: what the answer says is counted again in the pixels, and held-out combinations stay apart."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shardkit.errors import SpecError
from shardkit.records.row import Row
from shardkit.synth.combinations import LEAST_PERCENT, MOST_PERCENT, is_held_out
from shardkit.synth.draws import Draws
from shardkit.synth.shape_pixels import SHAPES
from shardkit.synth.shapes import KINDS, QUESTIONS, ShapesParameters, combinations_of
from shardkit.synth.table import GENERATORS

MAKE = GENERATORS["shapes"].make
TONES = GENERATORS["dtmf"].make
KNOWN_PIXELS = "0b20cacbaf15bc9d2f3533dac904f2297b508925df3c6425df9d7bde5b5df32d"
KNOWN_HELD_OUT = (
    "red square 4", "red cross 4", "green circle 1", "green cross 1", "green cross 3", "green cross 4",
    "blue square 1", "blue square 3", "blue triangle 2", "yellow square 4", "yellow circle 1", "yellow circle 2",
    "yellow triangle 3", "yellow cross 3", "purple circle 2", "purple circle 3", "purple cross 1", "purple cross 4",
    "cyan square 1", "cyan circle 3", "cyan cross 4",
)  # fmt: skip
PURE = {
    "red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220), "yellow": (235, 205, 40),
    "purple": (150, 50, 170), "cyan": (40, 190, 205), "orange": (245, 130, 20), "pink": (250, 130, 190),
}  # fmt: skip
"""Written again, not imported: a colour that is renamed or moved must be noticed."""


def pixels_of(row: Row) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(row.blobs["image"])), dtype=np.int64)


def seen(row: Row) -> tuple[str, str, str]:
    """Colour, shape and count, found in the pixels alone."""
    pixels = pixels_of(row)
    blobs = connected(pixels.max(axis=2) - pixels.min(axis=2) > 40)
    tint = np.mean([pixels[y, x] for blob in blobs for y, x in blob], axis=0)
    colour = min(PURE, key=lambda name: float(np.abs(tint - PURE[name]).sum()))
    shapes = {outline(blob) for blob in blobs}
    assert len(shapes) == 1, shapes
    return colour, shapes.pop(), str(len(blobs))


def connected(coloured: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Groups of pixels that touch at a side."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(coloured), strict=True)}
    groups = []
    while left:
        group, edge = [], [left.pop()]
        while edge:
            y, x = edge.pop()
            group.append((y, x))
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            edge += near
        groups.append(group)
    return groups


def outline(blob: list[tuple[int, int]]) -> str:
    """The shape of a group of pixels, by how wide its rows are, from top to bottom."""
    widths = [count for _, count in sorted(Counter(y for y, _ in blob).items())]
    middle = widths[len(widths) // 2]
    if len(set(widths)) == 1:
        return "square"
    if widths[-1] == max(widths) and widths[0] < middle:
        return "triangle"
    if len(set(widths)) == 2 and widths[0] < middle:
        return "cross"
    return "circle" if len(blob) > 0.7 * len(widths) ** 2 else "diamond"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"side": 48, "most": 5, "noise": 0, "colours": 8, "shapes": 5},
        {"side": 96, "most": 9, "noise": 20, "shapes": 5, "colours": 8},
    ],
    ids=["default", "larger", "many"],
)
def test_the_picture_shows_what_the_answer_says(parameters: dict[str, Any]) -> None:
    for index in range(150):
        row = MAKE(3, index, parameters)
        found = dict(zip(KINDS, seen(row), strict=True))
        assert found == {kind: row.fields[kind] for kind in KINDS}, index
        assert row.fields["answer"] == found[row.fields["asked"]]
        assert row.fields["question"] in QUESTIONS[row.fields["asked"]]


def test_a_conversation_asks_all_three_and_every_answer_is_true() -> None:
    orders = set()
    for index in range(60):
        row = MAKE(3, index, {"questions": "all"})
        turns = row.fields["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3
        asked = {turn["content"]: after["content"] for turn, after in zip(turns[::2], turns[1::2], strict=True)}
        kinds = [next(kind for kind in KINDS if question in QUESTIONS[kind]) for question in asked]
        assert dict(zip(kinds, asked.values(), strict=True)) == dict(zip(KINDS, seen(row), strict=True))
        orders.add(tuple(kinds))
    assert len(orders) == 6


def test_pixels_never_change() -> None:
    """Written down once: another value here means that every dataset of shapes changes."""
    digest = hashlib.sha256()
    for index in range(20):
        row = MAKE(7, index, {"shapes": 5, "colours": 8})
        digest.update(pixels_of(row).astype(np.uint8).tobytes() + json.dumps(row.fields, sort_keys=True).encode())
    assert digest.hexdigest() == KNOWN_PIXELS


def test_the_held_out_combinations_never_change() -> None:
    held_out = combinations_of(ShapesParameters(combinations="held_out"))
    assert tuple(" ".join(one) for one in held_out) == KNOWN_HELD_OUT


@given(
    colours=st.integers(2, 8), shapes=st.integers(2, 5), most=st.integers(2, 9),
    percent=st.integers(LEAST_PERCENT, MOST_PERCENT),
)  # fmt: skip
def test_the_parts_share_nothing_and_make_up_the_whole(colours: int, shapes: int, most: int, percent: int) -> None:
    fields: dict[str, Any] = {"side": 96, "colours": colours, "shapes": shapes, "most": most}
    whole = combinations_of(ShapesParameters(**fields))
    try:
        parts = [
            combinations_of(ShapesParameters(**fields, combinations=part, held_out_percent=percent))
            for part in ("train", "held_out")
        ]
    except ValueError as error:
        assert "another held_out_percent" in str(error)
        return
    assert not set(parts[0]) & set(parts[1])
    assert set(parts[0]) | set(parts[1]) == set(whole)
    for part in parts:
        for at in range(3):
            assert {one[at] for one in part} == {one[at] for one in whole}


@pytest.mark.parametrize("seed", [1, 11])
def test_no_source_of_training_draws_a_held_out_combination(seed: int) -> None:
    shown = {part: set[tuple[str, ...]]() for part in ("train", "held_out")}
    for part, those in shown.items():
        for index in range(300):
            row = MAKE(seed, index, {"combinations": part})
            those.add(tuple(row.fields[kind] for kind in KINDS))
    assert not shown["train"] & shown["held_out"]
    assert len(shown["train"]) > 60
    assert len(shown["held_out"]) > 10


def test_no_tones_of_training_have_held_out_digits() -> None:
    said = {part: set[str]() for part in ("train", "held_out")}
    for part, those in said.items():
        for index in range(200):
            parameters = {"least": 2, "digits": 3, "tone_milliseconds": 40, "combinations": part}
            those.add(str(TONES(5, index, parameters).fields["text"]))
    assert not said["train"] & said["held_out"]
    assert {len(text.split()) for those in said.values() for text in those} == {2, 3}


@pytest.mark.parametrize("percent", [LEAST_PERCENT, 20, MOST_PERCENT])
def test_about_as_many_digits_are_held_out_as_asked(percent: int) -> None:
    pairs = [is_held_out("dtmf", (a, b), percent) for a in "0123456789" for b in "0123456789"]
    assert abs(sum(pairs) - percent) < 15
    assert any(pairs)


def test_answers_are_equally_likely() -> None:
    for part in ("train", "held_out"):
        counts = Counter(
            MAKE(1, index, {"questions": "shape", "combinations": part}).fields["answer"] for index in range(400)
        )
        assert set(counts) == set(SHAPES[:4])
        assert max(counts.values()) < 140


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("shapes", {"side": 8}),
        ("shapes", {"side": 16, "most": 9}),
        ("shapes", {"colours": 9}),
        ("shapes", {"noise": 65}),
        ("shapes", {"held_out_percent": 1}),
        ("shapes", {"colours": 2, "shapes": 2, "most": 2, "combinations": "held_out"}),
        ("dtmf", {"least": 0}),
        ("dtmf", {"least": 4}),
        ("dtmf", {"combinations": "held_out"}),
        ("dtmf", {"held_out_percent": 51}),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        GENERATORS[name].check(parameters)


def test_bytes_taken_at_once_are_those_of_the_words() -> None:
    for skipped in (0, 1, 63, 64, 65):
        words, taken = Draws(1, "take", 0), Draws(1, "take", 0)
        for _ in range(skipped):
            assert words.word() == taken.word()
        data = taken.take(700)
        assert b"".join(words.word().to_bytes(4, "little") for _ in range(175)) == data
        assert words.word() == taken.word()
