"""Small datasets with copies planted in them, for the tests of curating."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image as Pictures

from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Audio, AudioType, Image, ImageType, Message, Modalities, Preference, Sample
from shardkit.spec import Codec
from tests.read.made import make_dataset
from tools.bench.dedup_texts import Words

__all__ = ["Words", "chat", "heard", "make", "noise", "photo", "png", "seen", "texts", "wave"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def texts(count: int, seed: int = 0, words: int = 60) -> list[str]:
    """Texts that have nothing in common."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices(LETTERS, k=draw.randint(3, 8))) for _ in range(words)) for _ in range(count)]


def chat(number: int, *contents: str, system: str = "", preference: tuple[str, str] | None = None) -> Prepared:
    """A sample of text: turns of a user and an assistant."""
    messages = [Message(role="system", content=system)] if system else []
    for at, content in enumerate(contents):
        messages.append(Message(role="assistant" if at % 2 else "user", content=content))
    chosen = Preference(chosen=preference[0], rejected=preference[1]) if preference else None
    return Prepared(
        sample=Sample(
            id=f"t{number}", messages=tuple(messages), domain="d", category="c", source="s", preference=chosen
        )
    )


def seen(number: int, data: bytes, question: str = "", kind: ImageType = "photo") -> Prepared:
    """A sample with a picture, and a question about it where one is given."""
    member = "image0.png" if data.startswith(b"\x89PNG") else "image0.jpg"
    size = Pictures.open(io.BytesIO(data)).size
    image = Image(member=member, type=kind, width=size[0], height=size[1])
    messages = (Message(role="user", content=f"<|image|>{question}"),) if question else ()
    sample = Sample(
        id=f"i{number}", messages=messages, domain="d", category="c", source="s", modalities=Modalities(image=(image,))
    )
    return Prepared(sample=sample, members=(Member(name=member, data=data),))


def heard(number: int, data: bytes, question: str = "", kind: AudioType = "speech") -> Prepared:
    """A sample with a recording."""
    sound = Audio(member="audio0.flac", type=kind, duration_seconds=0.25, sample_rate=16000)
    messages = (Message(role="user", content=f"<|audio|>{question}"),) if question else ()
    sample = Sample(
        id=f"a{number}", messages=messages, domain="d", category="c", source="s", modalities=Modalities(audio=(sound,))
    )
    return Prepared(sample=sample, members=(Member(name="audio0.flac", data=data),))


def photo(seed: int, side: int = 96) -> Pictures.Image:
    """A picture of coarse shapes."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Pictures.fromarray(small).resize((side, side), Pictures.Resampling.BICUBIC)


def png(picture: Pictures.Image, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def jpeg(picture: Pictures.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def noise(seed: int) -> np.ndarray:
    """A quarter of a second of sound at 16 kHz, int16."""
    return np.random.default_rng(seed).integers(-9000, 9000, 4000, dtype=np.int16)


def wave(samples: np.ndarray, level: float = 0.5, kind: str = "FLAC") -> bytes:
    buffer = io.BytesIO()
    options = {"compression_level": level} if kind == "FLAC" else {}
    soundfile.write(buffer, samples, 16000, format=kind, subtype="PCM_16", **options)
    return buffer.getvalue()


def make(root: Path, samples: Sequence[Prepared], shards: int = 3, codec: Codec = "tar.zst") -> str:
    """Publish samples in order as a dataset of so many shards; its version."""
    size = -(-len(samples) // shards)
    parts = [samples[at : at + size] for at in range(0, len(samples), size)]
    return make_dataset(root, parts, codec=codec, block=4)
