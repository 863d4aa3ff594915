"""Images as SigLIP sees them: RGB, resized, uint8 until they are on the device.

Here: decoding and resizing, the fast decode, normalising.
Elsewhere: which images a sample has (media.py), stacking (collate.py).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Decode = Literal["exact", "fast"]
MEAN = 0.5
STD = 0.5


def load_image(data: bytes | memoryview, size: int, decode: Decode = "exact") -> NDArray[np.uint8]:
    """An encoded image as (3, size, size) uint8.

    `exact` equals transformers' SiglipImageProcessorPil (transparency on white, bicubic with antialias to a square),
    but for 16-bit greys, which it turns white above 255 and we scale. `fast` lets the JPEG
    decoder scale by a power of two first: for photographs a third of the time, off by a few grey levels.
    Raises OSError or ValueError for bytes that are no image.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        if decode == "fast":
            opened.draft("RGB", (2 * size, 2 * size))
        image = to_rgb(opened)
    gap = 2.0 if decode == "fast" else None
    resized = image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=gap)
    return np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1))


def to_rgb(image: Picture) -> Picture:
    """A picture as RGB, transparency on white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def normalise(
    images_NCHW: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = (MEAN,) * 3,
    std: Sequence[float] = (STD,) * 3,
) -> torch.Tensor:
    """uint8 images as the encoder wants them: (x / 255 - mean) / std by colour, computed where the images are."""
    scale, shift = ([1.0 / (255.0 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)])
    if len({*scale}) == len({*shift}) == 1:
        return (images_NCHW.to(torch.float32) * scale[0] - shift[0]).to(dtype)
    by_colour = [torch.tensor(values, device=images_NCHW.device).view(3, 1, 1) for values in (scale, shift)]
    return (images_NCHW.to(torch.float32) * by_colour[0] - by_colour[1]).to(dtype)
