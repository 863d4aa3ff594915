"""Tiny samples, senses and models that several of the trainer's tests share."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shardkit.records.sample import Audio, Image, Keyframe, Message, Modalities, Sample, Video
from tests.trainer.datasets import mixed
from trainer.data.tokenise import Speech, train_speech
from trainer.spec import HearingSpec, LanguageSpec, ModelSpec, VisionSpec

os.environ["SHARDKIT_SETTINGS"] = ""  # commands that tests start read no settings of who runs them


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def speech() -> Speech:
    return train_speech(["What colour is the button? red green blue", "digits 1 2 3", "def main(): return 0"], 400)


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    return ModelSpec(
        vision=VisionSpec(
            config={
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "image_size": 32, "patch_size": 16,
            },
            latents=2, depth=1, heads=2, frames=2, trainable=True,
        ),
        audio=HearingSpec(
            config={
                "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
                "num_mel_bins": 80, "max_source_positions": 50,
            },
            latents=3, depth=1, heads=2, windows=2, trainable=True,
        ),
        language=LanguageSpec(
            config={
                "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 2,
            },
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve texts, screens and tones each; for reading only, every test of the session has the same."""
    return mixed(tmp_path_factory.mktemp("data") / "mixed")


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return png_bytes


@pytest.fixture(scope="session")
def flac() -> Callable[..., bytes]:
    return flac_bytes


def png_bytes(colour: tuple[int, ...] = (200, 30, 30), size: tuple[int, int] = (40, 30), form: str = "PNG") -> bytes:
    from PIL import Image as Picture

    out = io.BytesIO()
    Picture.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(out, form)
    return out.getvalue()


def flac_bytes(seconds: float = 0.5, pitch: float = 440.0) -> bytes:
    import soundfile

    out = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * 16_000)) / 16_000)
    soundfile.write(out, wave.astype(np.float32), 16_000, format="FLAC")
    return out.getvalue()


class FakeItem:
    """What the trainer uses of shardkit's Item: for tests of one sample, without a dataset around it."""

    is_foreign = False

    def __init__(self, sample: Sample, members: dict[str, bytes], key: str = "00") -> None:
        self.key = key
        self.sample = sample
        self.members = members


@pytest.fixture(scope="session")
def item() -> Callable[..., FakeItem]:
    return make_item


def make_item(
    *turns: tuple[str, str], images: int = 0, sounds: int = 0, frames: int = 0, track: bool = False, key: str = "00"
) -> FakeItem:
    """A sample of turns (role, content) with so many images of growing brightness, sounds of growing pitch, frames."""
    members: dict[str, bytes] = {}
    for at in range(images):
        members[f"image{at}.png"] = png_bytes((10 + 40 * at, 0, 0))
    for at in range(sounds):
        members[f"audio{at}.flac"] = flac_bytes(0.4 + 0.1 * at)
    for at in range(frames):
        members[f"video0.kf{at:05d}.jpg"] = png_bytes((0, 10 + 40 * at, 0), form="JPEG")
    if track:
        members["video0.audio.flac"] = flac_bytes(0.7)
    video = Video(
        name="video0", type="screencast", duration_seconds=1.0, fps=2.0, width=40, height=30,
        keyframes=tuple(Keyframe(member=f"video0.kf{at:05d}.jpg", pts_seconds=at / 2) for at in range(frames)),
        audio="video0.audio.flac" if track else "",
    )  # fmt: skip
    sample = Sample(
        id=key,
        messages=tuple(Message(role=role, content=content) for role, content in turns),  # type: ignore[arg-type]
        domain="d",
        category="c",
        source="s",
        modalities=Modalities(
            image=tuple(Image(member=f"image{at}.png", type="ui_mock", width=40, height=30) for at in range(images)),
            audio=tuple(
                Audio(member=f"audio{at}.flac", type="tones", duration_seconds=0.5, sample_rate=16_000)
                for at in range(sounds)
            ),
            video=(video,) if frames or track else (),
        ),
    )
    return FakeItem(sample, members, key)
