"""Images as pixels: RGB bytes in memory that is used again, decoded in threads without the interpreter's lock.

Here: decoding for reading: JPEG by simplejpeg where it is installed, all else and every doubtful case by Pillow.
Elsewhere: checking images before they are stored (image.py), the memory (store.buffers).

A JPEG of 512x512 takes 1.05 ms so; into memory of its own 0.4 ms more, for page faults, and Pillow takes 1.7 ms.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shardkit.errors import Refused
from shardkit.media.image import EXTENSIONS
from shardkit.media.image import decode_image as decode_picture
from shardkit.media.sniff import sniff
from shardkit.store.buffers import Buffers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image as Picture

MOST_PIXELS = 50_000_000
"""Pixels of an image, where nothing else is asked for: as many as a build takes by default."""

MOST_SCANS = 200
"""Scans of a progressive JPEG: encoders write about ten; each costs a pass over all coefficients."""

_MARKS = frozenset({0xC0, 0xC1, 0xC2})
_ENDINGS = frozenset((*EXTENSIONS.values(), "jpeg"))
_buffers = Buffers()


class HasMembers(Protocol):
    """An item of a dataset, as far as it matters here."""

    @property
    def members(self) -> Mapping[str, Any]:
        """The bytes of every member by name."""
        ...


def decode_images(item: HasMembers) -> dict[str, NDArray[np.uint8]]:
    """All images among an item's members by name, as `decode_image` gives them; for `open_loader(decode=…)`."""
    return {name: decode_image(data) for name, data in item.members.items() if _names_image(name)}


def _names_image(name: str) -> bool:
    """Ours are called `image0.jpg`; in tars that others made a member may be called `jpg` alone, or `JPG`."""
    return name.lower().rpartition(".")[2] in _ENDINGS


def decode_image(
    data: bytes | memoryview, *, max_pixels: int = MOST_PIXELS, least_side: int | None = None
) -> NDArray[np.uint8]:
    """An encoded image as RGB (height, width, 3) uint8, upright, transparency on white.

    `least_side` lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep so many pixels: what
    is resized anyway is decoded in a third of the time. The array's memory is used again once nobody holds the array
    or a part of it. Raises Refused (`unknown-media`, `image-damaged`, `too-many-pixels`), before anything is decoded
    where the header says enough.
    """
    head = _read_head(data)
    if head is None or head.turned or _simplejpeg() is None:
        return _by_pillow(bytes(data), max_pixels, least_side)
    if head.width * head.height > max_pixels:
        raise Refused("too-many-pixels", f"{head.width} x {head.height}, limit {max_pixels}")
    factor = _factor(head.width, head.height, least_side)
    height, width = -(-head.height // factor), -(-head.width // factor)
    buffer = _buffers.take(3 * height * width)
    try:
        pixels: NDArray[np.uint8] = _simplejpeg().decode_jpeg(
            data, "RGB", min_height=height, min_width=width, buffer=buffer
        )
    except ValueError:  # damaged, or of a kind that it does not know: Pillow says which
        return _by_pillow(bytes(data), max_pixels, least_side)
    return pixels


class _Head(NamedTuple):
    """What a JPEG's segments say before its first scan. `turned`: shown otherwise than stored, or not plain."""

    width: int
    height: int
    turned: bool


def _read_head(data: bytes | memoryview) -> _Head | None:
    """The head of a JPEG of one or three components that simplejpeg decodes; None for anything else."""
    try:
        if data[0] != 0xFF or data[1] != 0xD8:
            return None
        at, turned = 2, False
        while data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:
                at += 1
                continue
            size = (data[at + 2] << 8) + data[at + 3]
            if marker in _MARKS:
                height, width, components = struct.unpack_from(">HHB", data, at + 5)
                if components not in (1, 3) or not width or not height:
                    return None
                if marker == 0xC2 and bytes(data).count(b"\xff\xda") > MOST_SCANS:
                    raise Refused("image-damaged", f"jpeg with more than {MOST_SCANS} scans")
                return _Head(width, height, turned)
            if marker == 0xE1 and bytes(data[at + 4 : at + 10]) == b"Exif\0\0":
                turned = turned or _orientation(bytes(data[at + 10 : at + 2 + size])) != 1
            if marker == 0xEE and bytes(data[at + 4 : at + 9]) == b"Adobe" and data[at + 15] != 1:
                return None  # RGB or CMYK stored without the usual transform: Pillow knows them all
            if marker in (0xDA, 0xD9) or size < 2:
                return None
            at += 2 + size
    except (IndexError, struct.error):
        return None
    return None


def _orientation(tiff: bytes) -> int:
    """The Orientation tag (0x0112) of an Exif block's first directory; 1, which is upright, where it has none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == 0x0112:
            return int(value) if value in range(2, 9) else 1
    return 1


def _factor(width: int, height: int, least_side: int | None) -> int:
    """By how much a JPEG's sides are divided while decoding."""
    if least_side is None:
        return 1
    return next((factor for factor in (8, 4, 2) if min(width, height) // factor >= least_side), 1)


def _by_pillow(data: bytes, max_pixels: int, least_side: int | None) -> NDArray[np.uint8]:
    kind = sniff("image", data)
    picture, _ = decode_picture(data, kind, max_pixels)
    if kind == "jpeg" and (factor := _factor(*picture.size, least_side)) > 1:
        picture = _flat(picture).reduce(factor)
    shown = np.asarray(_flat(picture), dtype=np.uint8)
    buffer = _buffers.take(shown.size)
    pixels: NDArray[np.uint8] = np.frombuffer(buffer, dtype=np.uint8).reshape(shown.shape)
    np.copyto(pixels, shown)
    return pixels


def _flat(picture: Picture) -> Picture:
    """A picture as RGB: transparency on white, 16-bit greys scaled."""
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    shown = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


@lru_cache(maxsize=1)
def _simplejpeg() -> Any:
    """The module, or None where it is not installed (extra `fast`)."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
