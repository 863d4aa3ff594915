"""Near-duplicate images: a perceptual hash of photos, a digest of the pixels of everything that is read.

Here: which images are compared how, the 64-bit hash, the bands under which near ones meet, their distance.
Elsewhere: decoding (media.image), which pairs become clusters (clusters.py).

A perceptual hash keeps the coarse shapes of a picture, so it cannot tell two pages apart that differ in all their
words: it is used for photos and footage alone. Screenshots, pages, diagrams, charts and grids are equal only where all
their pixels are. The hash is pHash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010): the 64 lowest frequencies of a 32 x 32 cosine transform of the brightness, each compared with their median. All
of it is computed in integers, so that every machine finds the same.
"""

from __future__ import annotations

import io
import itertools
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from shardkit.curate.words import U64, mix
from shardkit.errors import Refused
from shardkit.media.image import DAMAGE, decode_image
from shardkit.media.pixels import MOST_PIXELS
from shardkit.media.sniff import sniff

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PERCEPTUAL = ("photo", "footage")
"""Types of images and videos whose pictures are compared by their shapes; all others by their pixels."""

RADIUS = 6
"""Bits in which the hashes of near-duplicates may differ: JPEG and half the size change 4 at most, seldom 6."""

SIDE, LOWEST = 32, 8
FLATTEST = 24
"""A picture whose hash has no frequency stronger than so many steps of brightness has no shapes to compare."""

CHUNKS = RADIUS + 2
"""With so many chunks of the hash, two of them at least are equal in two hashes RADIUS bits apart."""

PAIRS = tuple(itertools.combinations(range(CHUNKS), 2))
IMAGE_BANDS = len(PAIRS)


def hash_photo(data: bytes | memoryview) -> int | None:
    """The perceptual hash of an encoded picture; None where it cannot be decoded, or has no shapes (a plain colour)."""
    try:
        picture = _decode(bytes(data))
    except Refused:
        return None
    return hash_picture(picture)


def hash_picture(picture: Picture) -> int | None:
    """The same of a decoded picture; bit 63 is the lowest frequency."""
    from PIL.Image import Resampling

    try:
        small = _grey(picture).resize((SIDE, SIDE), Resampling.BILINEAR)
    except DAMAGE:
        return None
    waves = _cosines()
    frequencies = (waves @ np.asarray(small, dtype=np.int64) @ waves.T).ravel()
    shapes = frequencies[1:]  # the first one is the mean brightness
    if int(np.abs(shapes).max()) < FLATTEST * (1 << 2 * _SHIFT) * SIDE // 4:
        return None
    middle = np.sort(frequencies)[len(frequencies) // 2 - 1 : len(frequencies) // 2 + 1].sum()
    bits = np.packbits(2 * frequencies > middle)
    return int.from_bytes(bits.tobytes(), "big")


def digest_image(data: bytes | memoryview) -> bytes:
    """16 bytes that equal pictures share: of the pixels, or of the bytes where these are JPEG or cannot be decoded.

    A JPEG that is encoded again has other pixels, and decoders may differ in single steps of brightness.
    """
    try:
        kind = sniff("image", bytes(data))
        if kind != "jpeg":
            picture, _ = decode_image(bytes(data), kind, MOST_PIXELS)
            shown = picture.convert("RGBA")
            return xxhash.xxh3_128_digest(b"%d %d " % shown.size + shown.tobytes())
    except (Refused, *DAMAGE):
        pass
    return xxhash.xxh3_128_digest(b"bytes " + bytes(data))


def band_images(hashes: U64, exact: U64) -> U64:
    """(images, IMAGE_BANDS): images whose hashes differ in at most RADIUS bits, and of equal `exact`, share a value."""
    edges = [64 * at // CHUNKS for at in range(CHUNKS + 1)]
    chunks = [
        (hashes >> np.uint64(start)) & np.uint64((1 << stop - start) - 1) for start, stop in itertools.pairwise(edges)
    ]
    columns = [
        mix(mix(mix(exact) + np.uint64(number)) + (chunks[one] << np.uint64(16) | chunks[other]))
        for number, (one, other) in enumerate(PAIRS)
    ]
    return np.stack(columns, axis=1)


def distance(first: U64, second: U64) -> npt.NDArray[np.int64]:
    """In how many bits hashes differ, pair by pair."""
    octets = (first ^ second).view(np.uint8).reshape(*first.shape, 8)
    bits: npt.NDArray[np.int64] = _BITS[octets].sum(axis=-1)
    return bits


def thumbnail(data: bytes | memoryview, side: int = 160) -> bytes:
    """A small JPEG of an encoded picture, for a page. Raises Refused."""
    picture = _decode(bytes(data)).convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


_SHIFT = 10
_BITS = np.array([number.bit_count() for number in range(256)], dtype=np.int64)


def _decode(data: bytes) -> Picture:
    return decode_image(data, sniff("image", data), MOST_PIXELS)[0]


def _grey(picture: Picture) -> Picture:
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        shown = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return picture.convert("RGB").convert("L")


@cache
def _cosines() -> npt.NDArray[np.int64]:
    """(LOWEST, SIDE) whole numbers: the cosine of each frequency at each place, times 2**_SHIFT."""
    places = (2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    whole: npt.NDArray[np.int64] = np.rint(np.cos(np.outer(np.arange(LOWEST), places)) * (1 << _SHIFT)).astype(np.int64)
    return whole
