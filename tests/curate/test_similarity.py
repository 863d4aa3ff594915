"""Similarity of texts, pictures and sounds: what the numbers say against plain definitions and real encoders."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from shardkit.curate.audio import digest_sound
from shardkit.curate.images import RADIUS, band_images, digest_image, distance, hash_photo
from shardkit.curate.text import agreement, band, jaccard, shingle, shorten, sign
from shardkit.curate.words import hash_words
from tests.curate.making import jpeg, noise, photo, png, texts, wave


def shingles_of(*written: str) -> list[np.ndarray]:
    made = shingle([hash_words(text) for text in written])
    return [made.values[start:stop] for start, stop in zip(made.starts, made.starts[1:], strict=False)]


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=14), min_size=2, max_size=4))
def test_jaccard_is_that_of_sets_of_three_words_in_a_row(words: list[list[str]]) -> None:
    runs = [{tuple(text[at : at + 3]) for at in range(len(text) - 2)} for text in words if len(text) > 2]
    found = shingles_of(*(" ".join(text) for text in words if len(text) > 2))
    for one, first in zip(runs, found, strict=True):
        for other, second in zip(runs, found, strict=True):
            assert jaccard(first, second) == pytest.approx(len(one & other) / len(one | other))


def test_short_texts_and_texts_without_words() -> None:
    one, same, other, none, sign_alone, again = shingles_of("Yes", "yes!", "no", "", "→ ✓", "→✓")
    assert (len(one), len(none), len(sign_alone)) == (1, 0, 1)
    assert jaccard(one, same) == 1 and jaccard(one, other) == 0
    assert jaccard(sign_alone, again) == 1


def test_signatures_agree_as_texts_do_and_bands_depend_on_what_must_be_equal() -> None:
    (text,) = texts(1, words=400)
    words = text.split()
    near = " ".join([*words[:380], *texts(1, seed=9, words=20)[0].split()])
    made = shingle([hash_words(text), hash_words(near), hash_words(texts(1, seed=5)[0])])
    signatures = sign(made)
    similar = jaccard(made.values[: made.starts[1]], made.values[made.starts[1] : made.starts[2]])
    assert agreement(shorten(signatures[:1]), shorten(signatures[1:2]))[0] == pytest.approx(similar, abs=0.15)
    bands = band(signatures, np.zeros(3, np.uint64), 6)
    assert bands.shape == (3, 20)
    assert np.isin(bands[0], bands[1]).any() and not np.isin(bands[0], bands[2]).any()
    assert not np.isin(bands[0], band(signatures, np.ones(3, np.uint64), 6)[1]).any()


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=RADIUS + 3))
def test_hashes_within_the_radius_always_meet(photo_hash: int, flipped: set[int]) -> None:
    other = photo_hash
    for bit in flipped:
        other ^= 1 << bit
    pair, exact = np.array([photo_hash, other], np.uint64), np.zeros(2, np.uint64)
    assert distance(pair[:1], pair[1:])[0] == len(flipped)
    bands = band_images(pair, exact)
    if len(flipped) <= RADIUS:
        assert (bands[0] == bands[1]).any()
    assert not np.isin(bands[0], band_images(pair, exact + np.uint64(1))).any()


def test_a_photo_that_was_encoded_again_or_made_smaller_is_near_and_others_are_far() -> None:
    hashes = [hash_photo(png(photo(seed))) for seed in range(12)]
    for seed, own in enumerate(hashes):
        picture = photo(seed)
        small = picture.resize((60, 60))
        assert own is not None
        for data in (jpeg(picture, 90), jpeg(picture, 50), png(small), jpeg(small, 80)):
            found = hash_photo(data)
            assert found is not None and (found ^ own).bit_count() <= RADIUS
        others = [other for at, other in enumerate(hashes) if at != seed and other is not None]
        assert min((own ^ other).bit_count() for other in others) > RADIUS


def test_a_plain_colour_and_what_is_no_picture_have_no_hash() -> None:
    assert hash_photo(png(Image.new("RGB", (50, 40), (200, 10, 30)))) is None
    assert hash_photo(png(Image.new("RGBA", (50, 40), (0, 0, 0, 0)))) is None
    assert hash_photo(b"no picture") is None


def test_the_hash_is_the_same_on_every_machine() -> None:
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    assert hash_photo(png(Image.fromarray((across * across // 16 + down * 5 % 97).astype(np.uint8)))) == KNOWN_HASH


KNOWN_HASH = 10749295358601145050


def test_pixels_decide_about_screenshots() -> None:
    page = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(page).text((10, 10), "Total 17", fill="black")
    other = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(other).text((10, 10), "Total 71", fill="black")
    assert digest_image(png(page)) == digest_image(png(page, level=1)) == digest_image(png(page.convert("RGBA")))
    assert digest_image(png(page)) != digest_image(png(other))
    assert digest_image(png(page)) != digest_image(png(page.resize((100, 200))))
    assert digest_image(b"none") != digest_image(b"nine")


def test_samples_decide_about_recordings() -> None:
    samples = noise(1)
    assert wave(samples, 0.0) != wave(samples, 0.8)
    assert (
        digest_sound(wave(samples, 0.0)) == digest_sound(wave(samples, 0.8)) == digest_sound(wave(samples, kind="WAV"))
    )
    changed = samples.copy()
    changed[2000] += 1
    assert digest_sound(wave(changed)) != digest_sound(wave(samples))
    assert digest_sound(wave(samples)[:200]) == digest_sound(wave(samples)[:200])
    assert io.BytesIO(wave(samples)).read(4) == b"fLaC"
