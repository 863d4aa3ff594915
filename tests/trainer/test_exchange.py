"""Media exchanged among held-out rows: everybody gets another's, and who has no neighbour is left out."""

from __future__ import annotations

import numpy as np

from trainer.data.tokenise import Encoded
from trainer.eval.loss import exchange


def row(kind: str, *shades: int) -> Encoded:
    images = tuple(np.full((3, 2, 2), shade, dtype=np.uint8) for shade in shades)
    return Encoded(ids=(1, 2), said=(False, True), kind=kind, images=images)


def test_a_row_gets_the_image_of_another_one_or_is_left_out() -> None:
    rows = [("a", row("image", 1)), ("b", row("image", 2)), ("c", row("image", 3, 4)), ("d", row("text"))]
    found = {key: [int(image[0, 0, 0]) for image in changed.images] for key, changed in exchange(rows, "image")}
    assert found == {"a": [2], "b": [1], "d": []}
