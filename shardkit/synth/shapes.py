"""Generator of tiny pictures of equal shapes, with a question on their colour, shape or number.

Here: what a picture shows and what is asked about it.
Elsewhere: its pixels (shape_pixels.py), which combinations are held out (combinations.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeAlias

from shardkit.synth.combinations import Part, check_percent, is_in
from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters
from shardkit.synth.shape_pixels import (
    COLOURS,
    SHAPES,
    SMALLEST,
    Canvas,
    cell_side,
    cells_a_side,
    paint_shapes,
    picture_versions,
)

Kind = Literal["colour", "shape", "count"]
KINDS: tuple[Kind, ...] = ("colour", "shape", "count")
QUESTIONS: dict[Kind, tuple[str, ...]] = {
    "colour": ("What colour are the shapes?", "Which colour do you see?", "Name the colour."),
    "shape": ("What shape is shown?", "Which shape do you see?", "Name the shape."),
    "count": ("How many shapes are there?", "Count the shapes.", "What number of shapes do you see?"),
}
"""Phrasings; none tells anything of the other two."""
MOST_COUNT = 9


Combination: TypeAlias = tuple[str, str, str]
"""What a picture shows: colour, shape and number of its shapes, each as the answer to its kind of question."""


class ShapesParameters(Parameters, frozen=True, kw_only=True):
    """A picture has `side` pixels a side and 1 to `most` shapes of one of the first `shapes` kinds and `colours`.

    Its background is a dark grey, with up to `noise` levels more or less a pixel in half of the pictures.
    `questions`: of one kind, of a drawn kind (`mixed`), or `all` three one after the other, as a conversation.
    `combinations` of colour, shape and count: all, those of training, or the `held_out_percent` that are held out.
    """

    side: int = 32
    colours: int = 6
    shapes: int = 4
    most: int = 4
    noise: int = 12
    questions: Literal["mixed", "all", "colour", "shape", "count"] = "mixed"
    combinations: Part = "all"
    held_out_percent: int = 20

    def __post_init__(self) -> None:
        for name, least, most in (
            ("side", 16, 512),
            ("colours", 2, len(COLOURS)),
            ("shapes", 2, len(SHAPES)),
            ("most", 2, MOST_COUNT),
            ("noise", 0, 64),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; between {least} and {most}")
        if cell_side(self.side, self.most) <= SMALLEST:
            raise ValueError(f"{self.most} shapes do not fit into {self.side} pixels; fewer, or a larger side")
        check_percent(self.held_out_percent)
        empty = next((answer for answer, those in by_answer(self).items() if not those), None)
        if empty is not None:
            raise ValueError(
                f"no combination with {empty[0]} {empty[1]} is in the part {self.combinations!r}; "
                f"give more colours, shapes or counts, or another held_out_percent"
            )


def make_shapes(draws: Draws, parameters: ShapesParameters) -> Made:
    """Fields `question`, `answer`, `asked` (colour, shape or count) and all three facts; blob `image`, a PNG.

    Field `messages` in place of the first two where all is asked. First the kind of the first question is drawn, then
    its answer, then a combination with it: no answer is likelier than another.
    """
    wanted = parameters.questions
    kinds = draws.some(KINDS, len(KINDS)) if wanted == "mixed" or wanted == "all" else (wanted,)
    answer = draws.choice([key for key in by_answer(parameters) if key[0] == kinds[0]])
    shown = draws.choice(by_answer(parameters)[answer])
    facts: dict[str, Any] = dict(zip(KINDS, shown, strict=True))
    canvas = Canvas(side=parameters.side, cells=cells_a_side(parameters.most), noise=parameters.noise)
    image = paint_shapes(draws, shown, canvas)
    asked = [(draws.choice(QUESTIONS[kind]), facts[kind]) for kind in kinds]
    told: dict[str, Any] = {"question": asked[0][0], "answer": asked[0][1], "asked": kinds[0]}
    if wanted == "all":
        told = {"messages": [message for turn in asked for message in _turn(*turn)], "asked": "all"}
    return Made(fields={**told, **facts}, blobs={"image": image})


def combinations_of(parameters: ShapesParameters) -> tuple[Combination, ...]:
    """All combinations of a source's part, in the order of the lists."""
    every = (
        (colour, shape, str(count))
        for colour in tuple(COLOURS)[: parameters.colours]
        for shape in SHAPES[: parameters.shapes]
        for count in range(1, parameters.most + 1)
    )
    return tuple(one for one in every if is_in(parameters.combinations, "shapes", one, parameters.held_out_percent))


@cache
def by_answer(parameters: ShapesParameters) -> dict[tuple[Kind, str], tuple[Combination, ...]]:
    """The combinations of each answer to each kind of question, in order."""
    those = combinations_of(parameters)
    values: dict[Kind, tuple[str, ...]] = {
        "colour": tuple(COLOURS)[: parameters.colours],
        "shape": SHAPES[: parameters.shapes],
        "count": tuple(str(count) for count in range(1, parameters.most + 1)),
    }
    return {
        (kind, value): tuple(one for one in those if one[KINDS.index(kind)] == value)
        for kind, listed in values.items()
        for value in listed
    }


def _turn(question: str, answer: str) -> tuple[dict[str, str], dict[str, str]]:
    return {"role": "user", "content": question}, {"role": "assistant", "content": answer}


SHAPES_GENERATOR = Generator(
    name="shapes", version=1, parameters=ShapesParameters, row=make_shapes, versions=picture_versions
)
