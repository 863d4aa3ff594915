"""Images: decoded to be sure that they are whole, kept as they are where that is possible.

Here: one image's bytes to its stored bytes and its size as shown.
Elsewhere: naming members (prepare), frames of videos (frames).
"""

from __future__ import annotations

import importlib
import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Literal

import msgspec

from shardkit.errors import Refused
from shardkit.media.sniff import sniff
from shardkit.media.whole import is_whole
from shardkit.spec import ImageOptions, Limits

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

ImageFormat = Literal["png", "jpeg", "webp"]
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif", "bmp": "bmp"}
PNG_LEVEL = 6
WEBP_METHOD = 4
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error, zlib.error, EOFError,
          AttributeError, ArithmeticError, AssertionError, RuntimeError)  # fmt: skip
"""What Pillow's decoders raise on hostile bytes; anything else is a bug of ours."""


class StoredImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image ready to be stored: bytes, extension, width and height in pixels as shown."""

    data: bytes
    extension: str
    width: int
    height: int


def prepare_image(data: bytes, options: ImageOptions, limits: Limits) -> StoredImage:
    """An image in its stored form.

    The bytes are kept when they decode wholly, lie within `max_side`, need no turning (EXIF), have one frame and
    `format` is `keep` or their own. Otherwise the first frame is encoded anew: in the same format, or in `format`;
    GIF and BMP become PNG. Raises Refused (`unknown-media`, `image-damaged`, `too-many-pixels`).
    """
    kind = sniff("image", data)
    picture, turned = decode_image(data, kind, limits.image_pixels)
    fits = max(picture.size) <= options.max_side
    if fits and not turned and options.format in ("keep", kind):
        return StoredImage(data=data, extension=EXTENSIONS[kind], width=picture.width, height=picture.height)
    wanted: ImageFormat
    if options.format != "keep":
        wanted = options.format
    else:
        wanted = "jpeg" if kind == "jpeg" else "webp" if kind == "webp" else "png"
    picture = picture if fits else shrink(picture, options.max_side)
    encoded = encode_image(picture, wanted, options.quality)
    return StoredImage(data=encoded, extension=EXTENSIONS[wanted], width=picture.width, height=picture.height)


def decode_image(data: bytes, kind: str, max_pixels: int) -> tuple[Picture, bool]:
    """The first frame, upright, and whether it differs from what the bytes hold (turned, or one frame of several).

    The size is checked from the header before anything is decoded. Raises Refused.
    """
    from PIL import Image

    if not is_whole(kind, data):
        raise Refused("image-damaged", f"{kind} ends early")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = open_picture(data, kind)
            if picture.width * picture.height > max_pixels:
                raise Refused("too-many-pixels", f"{picture.width} x {picture.height}, limit {max_pixels}")
            several = getattr(picture, "n_frames", 1) > 1
            picture.load()
            upright = _upright(picture)
        except DAMAGE:
            raise Refused("image-damaged", f"{kind} cannot be decoded") from None
        except (Image.DecompressionBombError, MemoryError):
            raise Refused("too-many-pixels", "a frame far larger than the limit") from None
    return upright, several or upright is not picture


def encode_image(picture: Picture, kind: ImageFormat, quality: int) -> bytes:
    """An image as PNG (lossless), JPEG or WebP; the same pixels and library give the same bytes."""
    buffer = io.BytesIO()
    picture = _with_mode(picture, kind)
    if kind == "png":
        picture.save(buffer, "PNG", compress_level=PNG_LEVEL)
    elif kind == "jpeg":
        picture.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=False, progressive=False)
    else:
        picture.save(buffer, "WEBP", quality=quality, method=WEBP_METHOD)
    return buffer.getvalue()


def shrink(picture: Picture, max_side: int) -> Picture:
    """The image made smaller, its longer side `max_side` pixels, its shape kept."""
    from PIL.Image import Resampling

    longer = max(picture.size)
    width, height = (max(1, (side * max_side + longer // 2) // longer) for side in picture.size)
    if picture.mode in ("P", "1"):
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.resize((width, height), Resampling.LANCZOS)


def open_picture(data: bytes, kind: str) -> ImageFile:
    """Open by the format's own class: Pillow's guess over all formats, and its warning about pixels, stay out.

    Only the header is read; raises one of DAMAGE.
    """
    module, name = _CLASSES[kind]
    opened: ImageFile = getattr(importlib.import_module(f"PIL.{module}"), name)(io.BytesIO(data), "")
    return opened


def _upright(picture: Picture) -> Picture:
    from PIL import ImageOps

    try:
        orientation = picture.getexif().get(0x0112, 1)
    except DAMAGE:
        return picture  # a broken EXIF block does not make the pixels wrong
    if orientation not in range(2, 9):
        return picture
    return ImageOps.exif_transpose(picture)


def _with_mode(picture: Picture, kind: ImageFormat) -> Picture:
    """The image in a mode that the format can hold; transparency lies on white where it cannot."""
    from PIL import Image

    modes = {"png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "jpeg": ("L", "RGB"), "webp": ("RGB", "RGBA")}[kind]
    if picture.mode in modes:
        return picture
    transparent = picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info
    if not transparent:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    if "RGBA" in modes:
        return layered
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), layered).convert("RGB")


_CLASSES = {
    "png": ("PngImagePlugin", "PngImageFile"),
    "jpeg": ("JpegImagePlugin", "JpegImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
}
