"""Images: what is kept, what is encoded anew, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from shardkit.errors import Refused
from shardkit.media.image import StoredImage, prepare_image
from shardkit.spec import ImageOptions, Limits
from tests.media.making import IMAGES, encoded, picture, with_orientation

DATA = Path(__file__).parents[3] / "shared" / "data" / "images"


def stored(data: bytes, limits: Limits | None = None, **options: object) -> StoredImage:
    return prepare_image(data, ImageOptions(**options), limits or Limits())  # type: ignore[arg-type]


def opened(image: StoredImage) -> Image.Image:
    return Image.open(io.BytesIO(image.data))


def reason(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Refused) as caught:
        stored(data, limits)
    return caught.value.reason


@pytest.mark.parametrize("kind", IMAGES)
def test_valid_bytes_are_kept(kind: str) -> None:
    data = IMAGES[kind]()
    image = stored(data)
    assert image.data == data
    assert (image.width, image.height) == (64, 48)
    assert image.extension == {"jpeg": "jpg", "progressive jpeg": "jpg"}.get(kind, kind)


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_cut_anywhere_is_refused(kind: str) -> None:
    data = IMAGES[kind]()
    cuts = [*range(12), *range(12, len(data), max(1, len(data) // 150)), *range(len(data) - 12, len(data))]
    reasons = {reason(data[:cut]) for cut in cuts}
    assert reasons <= {"image-damaged", "unknown-media"}
    assert reason(data[: len(data) // 2]) == "image-damaged"


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real data is not there")
def test_real_images_are_kept() -> None:
    for path in sorted(DATA.glob("*.png")):
        data = path.read_bytes()
        image = stored(data)
        assert image.data == data, path.name
        assert opened(image).size == (image.width, image.height)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_image_is_stored_upright(kind: str, orientation: int) -> None:
    data = with_orientation(orientation, kind)
    image = stored(data)
    assert image.data != data
    assert (image.width, image.height) == ((48, 64) if orientation >= 5 else (64, 48))
    assert opened(image).size == (image.width, image.height)
    assert opened(image).getexif().get(0x0112, 1) == 1
    assert stored(image.data).data == image.data


def test_orientation_one_keeps_the_bytes() -> None:
    data = with_orientation(1)
    assert stored(data).data == data


def test_orientation_six_shows_the_left_side_on_top() -> None:
    upright = opened(stored(with_orientation(6))).convert("RGB")
    assert upright.getpixel((24, 5))[0] > 200  # type: ignore[index]
    assert upright.getpixel((24, 58))[0] < 60  # type: ignore[index]


def test_a_large_image_is_made_smaller_and_keeps_its_shape() -> None:
    image = stored(encoded(picture(300, 100), "PNG"), max_side=120)
    assert (image.width, image.height) == (120, 40)
    assert opened(image).size == (120, 40)


@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_every_mode_can_be_stored_in_every_format(mode: str, wanted: str) -> None:
    source = Image.new("I;16", (8, 8)) if mode == "I;16" else picture(8, 8).convert(mode)
    data = encoded(source, "JPEG" if mode == "CMYK" else "PNG")
    image = stored(data, format=wanted)
    opened(image).load()
    assert image.extension == {"png": "png", "jpeg": "jpg", "webp": "webp"}[wanted]
    assert stored(data, format=wanted).data == image.data


def test_transparency_lies_on_white_in_jpeg() -> None:
    clear = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")
    assert opened(stored(clear, format="jpeg")).getpixel((4, 4)) == (255, 255, 255)


def test_an_animation_is_stored_as_its_first_frame() -> None:
    frames = [picture(32, 32), Image.new("RGB", (32, 32), "green")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    image = stored(moving)
    assert image.extension == "png"
    assert getattr(opened(image), "n_frames", 1) == 1
    assert opened(image).convert("RGB").getpixel((2, 2))[0] > 200  # type: ignore[index]


def bomb(side: int) -> bytes:
    """A valid PNG of side x side black pixels in a few hundred kilobytes or less."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))  # noqa: E731
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header() -> None:
    data = bomb(24_000)
    assert len(data) < 200_000
    assert reason(data) == "too-many-pixels"


def test_a_bomb_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert reason(IMAGES["bmp"](), Limits(image_pixels=64 * 48 - 1)) == "too-many-pixels"


def test_the_pixel_limit_itself_is_allowed() -> None:
    assert stored(IMAGES["png"](), Limits(image_pixels=64 * 48)).width == 64


@pytest.mark.parametrize("data", [b"", b"\0", b"%PDF-1.7", b"<svg/>", b"II*\0" + bytes(50), b"P6 1 1 255 abc"])
def test_other_formats_are_refused(data: bytes) -> None:
    assert reason(data) == "unknown-media"


def test_a_flipped_byte_in_png_data_is_noticed() -> None:
    data = bytearray(IMAGES["png"]())
    data[len(data) // 2] ^= 1
    assert reason(bytes(data)) == "image-damaged"
