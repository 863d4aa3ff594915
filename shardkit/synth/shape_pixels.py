"""Pixels of tiny pictures of equal shapes, computed in integers.

Here: colours, the inside of each shape, where shapes lie, the PNG.
Elsewhere: what is to be shown and asked (shapes.py).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

from shardkit.synth.draws import Draws

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 50, 170),
    "cyan": (40, 190, 205),
    "orange": (245, 130, 20),
    "pink": (250, 130, 190),
}
TINT = 14
"""Levels by which a picture's colour may differ from the named one, each channel."""
GREYS = (10, 50)
"""Backgrounds: dark, so that every colour is brighter; on light ones too, a tiny model needs twice the steps."""
SMALLEST = 8
"""Pixels of the smallest shape: under that circles and squares are one."""
PNG_LEVEL = 6

SHAPES = ("square", "circle", "triangle", "cross", "diamond")


class Canvas(NamedTuple):
    """Pixels a side, cells a side (a shape lies within a cell), and the noise in grey levels."""

    side: int
    cells: int
    noise: int


def cells_a_side(most: int) -> int:
    """Cells a side of a square grid with room for `most` shapes."""
    return next(cells for cells in range(1, most + 1) if cells * cells >= most)


def cell_side(side: int, most: int) -> int:
    """Pixels a side of a cell."""
    return side // cells_a_side(most)


def paint_shapes(draws: Draws, shown: tuple[str, str, str], canvas: Canvas) -> bytes:
    """A PNG of a colour, shape and number: shapes of drawn sizes in drawn cells, which never touch one another."""
    colour, shape, count = shown
    pixels = _background(draws, canvas)
    tint = [min(255, level + draws.between(-TINT, TINT)) for level in COLOURS[colour]]
    cell = canvas.side // canvas.cells
    for place in draws.some(range(canvas.cells**2), int(count)):
        size = draws.between(max(SMALLEST, cell * 3 // 4), cell - 1)
        left, top = (cell * at + draws.below(cell - size) for at in (place % canvas.cells, place // canvas.cells))
        pixels[top : top + size, left : left + size][inside(shape, size)] = tint
    return _png(pixels)


def inside(shape: str, size: int) -> NDArray[np.bool_]:
    """Which pixels of a square of `size` a shape covers; distances from the middle count in half pixels."""
    import numpy as np

    across = np.arange(1 - size, size, 2)[None, :] + np.zeros((size, 1), dtype=np.int64)
    down = across.T
    covered: dict[str, NDArray[np.bool_]] = {
        "square": np.ones((size, size), dtype=bool),
        "circle": across**2 + down**2 <= size**2,
        "triangle": 2 * abs(across) <= down + size + 1,
        "cross": (3 * abs(across) <= size) | (3 * abs(down) <= size),
        "diamond": abs(across) + abs(down) <= size,
    }
    return covered[shape]


def picture_versions() -> dict[str, str]:
    """Versions of what compresses a picture."""
    import PIL
    from PIL import features

    names = ("zlib_ng", "zlib")
    return {"pillow": PIL.__version__} | {name: str(features.version(name)) for name in names if features.check(name)}


def _background(draws: Draws, canvas: Canvas) -> NDArray[np.uint8]:
    """One grey, in half of the pictures with another deviation at every pixel."""
    import numpy as np

    grey = draws.between(*GREYS)
    noise = canvas.noise * draws.below(2)
    words = np.frombuffer(draws.take(canvas.side**2), dtype=np.uint8).astype(np.int64)
    levels = np.clip(grey + words * (2 * noise + 1) // 256 - noise, 0, 255)
    return np.repeat(levels.reshape(canvas.side, canvas.side, 1), 3, axis=2).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
