"""Images reach SigLIP as transformers' own processor would send them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from trainer.data.images import load_image, normalise

TOLERANCE = 1e-2


def processed(data: bytes, size: int) -> torch.Tensor:
    processor = SiglipImageProcessorPil(size={"height": size, "width": size})
    with Image.open(io.BytesIO(data)) as image:
        return processor(image, return_tensors="pt")["pixel_values"][0]


def ours(data: bytes, size: int, decode: str = "exact") -> torch.Tensor:
    return normalise(torch.from_numpy(load_image(data, size, decode)[None]))[0]  # type: ignore[arg-type]


def drawn(mode: str, form: str, size: tuple[int, int], **options: int) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    smooth = Image.fromarray(noise, "RGBA").resize((9, 7)).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    smooth.convert(mode).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("mode", "form"),
    [("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("RGB", "JPEG"),
     ("CMYK", "JPEG")],
)  # fmt: skip
@pytest.mark.parametrize("size", [(640, 360), (33, 50), (96, 96)])
def test_exact_decode_equals_the_transformers_processor(mode: str, form: str, size: tuple[int, int]) -> None:
    data = drawn(mode, form, size)
    assert (ours(data, 96) - processed(data, 96)).abs().max() < TOLERANCE


def test_palette_with_a_transparent_colour_lies_on_white() -> None:
    with Image.open(io.BytesIO(drawn("P", "PNG", (96, 96)))) as image:
        colour = int(np.asarray(image)[0, 0])
    data = drawn("P", "PNG", (96, 96), transparency=colour)
    assert (ours(data, 96) - processed(data, 96)).abs().max() < TOLERANCE


def test_sixteen_bit_greys_keep_their_shades() -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0x4020, dtype=np.uint16)).save(out, "PNG")
    assert (load_image(out.getvalue(), 32) == 0x40).all()


@pytest.mark.parametrize("side", [224, 384])
def test_exact_decode_equals_the_transformers_processor_on_real_images(shared_data: Path, side: int) -> None:
    paths = sorted((shared_data / "images").glob("*.png"))[:4]
    assert paths
    for path in paths:
        assert (ours(path.read_bytes(), side) - processed(path.read_bytes(), side)).abs().max() < TOLERANCE, path.name


def test_fast_decode_is_close_and_reads_less_of_a_jpeg() -> None:
    data = drawn("RGB", "JPEG", (1600, 1200))
    fast, exact = ours(data, 96, "fast"), ours(data, 96)
    assert (fast - exact).abs().mean() < 0.02
    assert (fast - exact).abs().max() < 0.25


def test_images_stay_uint8_until_they_are_normalised(png: Callable[..., bytes]) -> None:
    image = load_image(png((255, 0, 0)), 32)
    assert image.dtype == np.uint8
    assert image.shape == (3, 32, 32)
    assert normalise(torch.from_numpy(image)).amax((1, 2)).tolist() == pytest.approx([1, -1, -1])
