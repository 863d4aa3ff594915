"""The two workloads of the benchmarks, the same bytes for every side.

Here: A, 8,000 JPEGs of 512x512 and about 50 KB with a chat of 623 bytes each; B, 400,000 chats of 679 bytes.
Elsewhere: writing and reading them (ours.py, peers.py).
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Image, Message, Modalities, Sample, decode_sample, encode_sample

DISTINCT_IMAGES = 64
"""JPEGs that are encoded; each sample's copy carries its number in a comment, so that no two are equal."""

IMAGE_MEMBER = "image0.jpg"


class Workload:
    """Samples as the bytes that peers take, (json, jpg or nothing), and as our builds have them."""

    def __init__(self, name: str, about: str, raw: list[tuple[bytes, bytes]]) -> None:
        self.name, self.about, self.raw = name, about, raw

    @functools.cached_property
    def prepared(self) -> list[Prepared]:
        """The same samples, decoded."""
        return [_prepared(record, image) for record, image in self.raw]

    @property
    def size_bytes(self) -> int:
        """Bytes of all records and media, without any container."""
        return sum(len(record) + len(image) for record, image in self.raw)

    def few(self) -> Workload:
        """Its first samples."""
        return Workload(self.name, self.about, self.raw[:64])

    def save(self, path: Path) -> None:
        """Keep it for processes that `load` it."""
        path.write_bytes(msgspec.msgpack.encode((self.name, self.about, self.raw)))


def load(path: Path) -> Workload:
    """A workload that was saved."""
    return Workload(*msgspec.msgpack.decode(path.read_bytes(), type=tuple[str, str, list[tuple[bytes, bytes]]]))


def make_a(scale: float) -> Workload:
    """JPEGs with chats."""
    count = max(64, round(8000 * scale))
    images = _jpegs()
    raw = [_with_image(number, images[number % len(images)]) for number in range(count)]
    mean = sum(len(image) for _, image in raw) // count
    return Workload("A", f"{count:,} JPEGs of 512x512, mean {mean:,} B, with chats of 623 B", raw)


def make_b(scale: float) -> Workload:
    """Chats."""
    count = max(1000, round(400_000 * scale))
    raw = [(encode_sample(_padded(number, 679, Modalities())), b"") for number in range(count)]
    return Workload("B", f"{count:,} chats of 679 B", raw)


WORKLOADS: dict[str, Callable[[float], Workload]] = {"A": make_a, "B": make_b}


def _with_image(number: int, jpeg: bytes) -> tuple[bytes, bytes]:
    comment = b"\xff\xfe" + struct.pack(">HI", 6, number)
    shown = Image(member=IMAGE_MEMBER, type="photo", width=512, height=512)
    return encode_sample(_padded(number, 623, Modalities(image=(shown,)))), jpeg[:2] + comment + jpeg[2:]


def _prepared(record: bytes, image: bytes) -> Prepared:
    members = (Member(name=IMAGE_MEMBER, data=image),) if image else ()
    return Prepared(sample=decode_sample(record), members=members)


def _padded(number: int, size: int, modalities: Modalities) -> Sample:
    """A chat whose record has exactly `size` bytes."""
    mark = "<|image|> " if modalities.image else ""
    words = f"Sample {number}: what can be said of it, and why? "

    def sample(answer: str) -> Sample:
        question = Message(role="user", content=mark + words)
        return Sample(
            id=f"{number:08d}",
            messages=(question, Message(role="assistant", content=answer)),
            domain="benchmark",
            category="chat",
            source="generated",
            modalities=modalities,
        )

    missing = size - len(encode_sample(sample("")))
    text = (f"Number {number} is told about at some length, " * 20)[:missing]
    return sample(text)


def _jpegs() -> list[bytes]:
    """Gradients with noise, which JPEG at quality 86 brings to about 50 KB."""
    from PIL import Image as Pillow

    made = []
    ramp = np.linspace(0, 1, 512, dtype=np.float32)
    for seed in range(DISTINCT_IMAGES):
        random = np.random.Generator(np.random.PCG64(seed))
        slopes, noise = random.uniform(-120, 120, (3, 2)), random.normal(0, 8.5, (512, 512, 3))
        planes = 128 + ramp[:, None, None] * slopes[:, 0] + ramp[None, :, None] * slopes[:, 1] + noise
        buffer = io.BytesIO()
        pixels = np.clip(planes, 0, 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(buffer, "JPEG", quality=86)
        made.append(buffer.getvalue())
    return made
