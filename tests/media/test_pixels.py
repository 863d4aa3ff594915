"""Pixels for reading: the same as Pillow's within the codec's tolerance, memory used again, hostile bytes refused."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from shardkit import Refused, decode_image, decode_images
from shardkit.media import pixels
from tests.media.making import IMAGES
from tests.media.test_hostile import mutated


def photo(width: int = 203, height: int = 117, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise, as photographs are."""
    chance = np.random.default_rng(seed)
    ramp = (
        np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.5, 0.2])
        + np.linspace(0, 50, height)[:, None, None]
    )
    return Image.fromarray(np.clip(ramp + chance.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8))


def as_bytes(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


JPEGS: dict[str, Callable[[], bytes]] = {
    "4:2:0": lambda: as_bytes(photo(), quality=88),
    "4:4:4": lambda: as_bytes(photo(), quality=95, subsampling=0),
    "4:2:2": lambda: as_bytes(photo(), quality=80, subsampling=1),
    "progressive": lambda: as_bytes(photo(), progressive=True),
    "grey": lambda: as_bytes(photo().convert("L")),
    "one pixel": lambda: as_bytes(photo(1, 1)),
    "restart markers": lambda: as_bytes(photo(), restart_marker_rows=1),
    "icc and comment": lambda: as_bytes(photo(), icc_profile=b"\0" * 300, comment=b"hello"),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_has_the_pixels_that_pillow_gives(kind: str) -> None:
    data = JPEGS[kind]()
    found, wanted = decode_image(data), by_pillow(data)
    assert found.shape == wanted.shape and found.dtype == np.uint8
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 3 and difference.mean() < 0.3
    assert (decode_image(memoryview(data)) == found).all()


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "bmp"])
def test_other_formats_have_exactly_the_pixels_that_pillow_gives(kind: str) -> None:
    data = IMAGES[kind]()
    assert (decode_image(data) == by_pillow(data)).all()


def test_jpegs_that_are_not_plain_are_shown_as_they_should_be() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(as_bytes(photo(), exif=exif))
    upright = np.rot90(decode_image(as_bytes(photo())), k=-1)
    assert turned.shape == upright.shape and np.abs(turned.astype(int) - upright).mean() < 2
    exif[0x0112] = 1
    assert decode_image(as_bytes(photo(), exif=exif)).shape == (117, 203, 3)
    cmyk = as_bytes(photo().convert("CMYK"))
    assert np.abs(decode_image(cmyk).astype(int) - by_pillow(cmyk)).max() == 0


def test_transparency_lies_on_white_and_deep_greys_are_scaled() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (decode_image(as_bytes(clear, "PNG")) == 255).all()
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    assert (decode_image(as_bytes(deep, "PNG")) == 128).all()


@pytest.mark.parametrize(("least", "factor"), [(117, 1), (58, 2), (29, 4), (14, 8), (3, 8), (200, 1)])
def test_a_jpeg_is_decoded_smaller_as_long_as_both_sides_keep_what_was_asked(least: int, factor: int) -> None:
    data = as_bytes(photo(), quality=95)
    found = decode_image(data, least_side=least)
    assert found.shape == (-(-117 // factor), -(-203 // factor), 3)
    box = np.asarray(photo().resize((found.shape[1], found.shape[0]), Image.Resampling.BOX), dtype=int)
    assert np.abs(found - box).mean() < 4


def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = as_bytes(photo())
    fast, smaller = decode_image(data), decode_image(data, least_side=58).shape
    monkeypatch.setattr(pixels, "_simplejpeg", lambda: None)
    assert np.abs(decode_image(data).astype(int) - fast).max() <= 3
    assert decode_image(data, least_side=58).shape == smaller


def test_images_of_an_item_are_decoded_by_name() -> None:
    members = {"json": b"{}", "image0.jpg": as_bytes(photo()), "image1.png": as_bytes(photo(5, 4), "PNG")}
    found = decode_images(SimpleNamespace(members=members))
    assert {name: image.shape for name, image in found.items()} == {
        "image0.jpg": (117, 203, 3),
        "image1.png": (4, 5, 3),
    }


@pytest.mark.parametrize("name", ["jpg", "JPG", "jpeg", "left.jpg"])
def test_images_are_found_under_the_names_that_others_give_them(name: str) -> None:
    members = {name: as_bytes(photo()), "jpg.txt": b"a caption", "json": b"{}"}
    assert list(decode_images(SimpleNamespace(members=members))) == [name]


def test_memory_of_pixels_is_used_again_but_never_while_somebody_holds_a_part() -> None:
    first = decode_image(as_bytes(photo(300, 200, seed=1)))
    kept, corner = first.copy(), first[:7, :7]
    address = first.ctypes.data
    del first
    others = [decode_image(as_bytes(photo(300, 200, seed=seed))) for seed in range(2, 6)]
    assert (corner == kept[:7, :7]).all() and all(other.ctypes.data != address for other in others)
    addresses = {other.ctypes.data for other in others} | {address}
    del others, corner
    assert decode_image(as_bytes(photo(300, 200, seed=9))).ctypes.data in addresses


def test_threads_decode_each_their_own() -> None:
    data = [as_bytes(photo(120, 90, seed=seed)) for seed in range(12)]
    wanted = [decode_image(one).copy() for one in data]
    wrong = threading.Event()

    def work(start: int) -> None:
        for number in range(60):
            at = (start + number) % len(data)
            if not (decode_image(data[at]) == wanted[at]).all():
                wrong.set()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not wrong.is_set()


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "png", "webp"])
def test_an_image_cut_anywhere_is_refused(kind: str) -> None:
    data = IMAGES[kind]()
    for length in [*range(0, len(data) - 2, max(1, len(data) // 60)), len(data) - 20]:
        with pytest.raises(Refused) as caught:
            decode_image(data[:length])
        assert caught.value.reason in ("unknown-media", "image-damaged")


def test_mutated_images_are_refused_or_decoded_within_the_limit() -> None:
    chance = random.Random(7)
    for make in (*JPEGS.values(), IMAGES["png"]):
        data = make()
        for _ in range(40):
            try:
                found = decode_image(mutated(data, chance), max_pixels=100_000)
            except Refused:
                continue
            assert found.size <= 300_000 and found.shape[2] == 3


def test_too_many_pixels_are_refused_from_the_header() -> None:
    huge = bytearray(as_bytes(photo()))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(Refused, match="65535 x 65535"):
        decode_image(bytes(huge))
    with pytest.raises(Refused, match="limit 100"):
        decode_image(as_bytes(photo()), max_pixels=100)
    with pytest.raises(Refused, match="limit 100"):
        decode_image(as_bytes(photo(), "PNG"), max_pixels=100)


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = as_bytes(photo(8, 8), progressive=True)
    with pytest.raises(Refused, match="scans"):
        decode_image(data[:-2] + b"\xff\xda\x00\x02" * 5000 + data[-2:])
