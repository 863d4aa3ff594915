"""Painting a page with Pillow: canvas, header, and the choice of the body's painter.

Here: shapes and text in a page's colours, with the one font that Pillow carries.
Elsewhere: what each body looks like (bodies).
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

from shardkit.synth.ui.page import Page

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 512, 384
HEADER = 64
PNG_LEVEL = 6
Box = tuple[int, int, int, int]


@cache
def font(size: int) -> FreeTypeFont:
    """Pillow's own font, laid out by Pillow's own code: no font, shaper or setting of the system takes part."""
    from PIL import ImageFont

    carried = ImageFont.load_default(size)
    if not isinstance(carried, ImageFont.FreeTypeFont):
        raise RuntimeError(MISSING_FONT)
    return carried.font_variant(layout_engine=ImageFont.Layout.BASIC)


MISSING_FONT = "Pillow was built without FreeType; install the wheel: pip install --force-reinstall pillow"


def missing_font() -> str:
    """Empty where text can be painted; else what to do."""
    from PIL import features

    return "" if features.check("freetype2") else MISSING_FONT


def font_versions() -> dict[str, str]:
    """Versions of what paints and compresses a page."""
    import PIL
    from PIL import features

    names = ("freetype2", "zlib_ng", "zlib")
    return {"pillow": PIL.__version__} | {name: str(features.version(name)) for name in names if features.check(name)}


class Canvas:
    """One picture being painted; positions in pixels from the top left."""

    def __init__(self, page: Page, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        from PIL import Image, ImageDraw

        self.colours = page.colours
        self.picture = Image.new("RGB", size, self.colours["ground"])
        self._pen = ImageDraw.Draw(self.picture)

    def box(self, box: Box, fill: str, *, line: str = "", radius: int = 6) -> None:
        """A filled rectangle with round corners; colours by role (`panel`, `accent`)."""
        outline = self.colours[line] if line else None
        self._pen.rounded_rectangle(box, radius, fill=self.colours[fill], outline=outline)

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """A thin line."""
        self._pen.line((*start, *end), fill=self.colours["line"])

    def dot(self, centre: tuple[int, int], radius: int, fill: str) -> None:
        """A filled circle."""
        x, y = centre
        self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.colours[fill])

    def text(self, at: tuple[int, int], words: str, size: int = 14, *, fill: str = "text", anchor: str = "lm") -> None:
        """Words at an anchor point (`lm` left and middle, `mm` centred, `rm` right)."""
        self._pen.text(at, words, font=font(size), fill=self.colours[fill], anchor=anchor)

    def button(self, box: Box, words: str) -> None:
        """A button in the accent's colour."""
        self.box(box, "accent", radius=5)
        self.text(((box[0] + box[2]) // 2, (box[1] + box[3]) // 2), words, 14, fill="on_accent", anchor="mm")

    def png(self) -> bytes:
        """The picture as PNG."""
        buffer = io.BytesIO()
        self.picture.save(buffer, "PNG", compress_level=PNG_LEVEL)
        return buffer.getvalue()


def paint_page(page: Page) -> bytes:
    """The page as a PNG of 512 x 384 pixels."""
    from shardkit.synth.ui.bodies import PAINTERS

    canvas = Canvas(page)
    canvas.box((0, 0, WIDTH, HEADER), "accent", radius=0)
    canvas.text((20, HEADER // 2), page.title, 22, fill="on_accent")
    right = WIDTH - 20
    for entry in reversed(page.nav):
        canvas.text((right, HEADER // 2), entry, 13, fill="on_accent", anchor="rm")
        right -= round(font(13).getlength(entry)) + 20
    PAINTERS[type(page.body)](canvas, page.body)
    return canvas.png()
