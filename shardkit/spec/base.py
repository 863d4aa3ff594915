"""What every spec struct stands on: strictness, limits, what is done to media.

Here: the structs that sources and builds share.
Elsewhere: kinds of sources (kinds.py), the whole spec (build.py), reading YAML (loading.py).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Codec = Literal["tar", "tar.zst"]
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every spec struct."""


class Limits(Strict, frozen=True, kw_only=True):
    """Bounds of a build. Rows beyond a bound become dead letters; shards are cut at theirs.

    Bytes are plain integers; `memory_bytes` bounds the whole process tree, however slow the disk is.
    """

    memory_bytes: int = 1 << 30
    shard_bytes: int = 256 << 20
    shard_samples: int = 10_000
    block_samples: int = 16
    member_bytes: int = 512 << 20
    text_characters: int = 2_000_000
    image_pixels: int = 50_000_000
    audio_seconds: float = 7200.0
    video_seconds: float = 7200.0
    video_frames: int = 1_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it must be positive")
        if self.memory_bytes < 256 << 20:
            raise ValueError(
                f"limits.memory_bytes is {self.memory_bytes}; a build needs at least {256 << 20} (256 MiB)"
            )
        if self.member_bytes >= 8 << 30:
            raise ValueError("limits.member_bytes must be under 8 GiB, the largest member that a USTAR header can hold")
        if self.block_samples > 4096:
            raise ValueError(f"limits.block_samples is {self.block_samples}; at most 4096")


class ImageOptions(Strict, frozen=True, kw_only=True):
    """How images are stored. Valid bytes within `max_side` pixels are kept as they are."""

    max_side: int = 4096
    format: Literal["keep", "png", "jpeg", "webp"] = "keep"
    quality: int = 90


class AudioOptions(Strict, frozen=True, kw_only=True):
    """How sound is stored: FLAC, mono, 16 bit. Durations in seconds, loudness in LUFS (none: left as it is)."""

    sample_rate: int = 16_000
    min_seconds: float = 0.05
    max_seconds: float | None = None
    loudness: float | None = None


class VideoOptions(Strict, frozen=True, kw_only=True):
    """How videos are stored: `keyframes` frames spread over the video's keyframes (0: all of them), as JPEG."""

    keyframes: int = 8
    max_side: int = 1280
    quality: int = 90
    audio: bool = True


class MediaOptions(Strict, frozen=True, kw_only=True):
    """What is done to the media of one source."""

    image: ImageOptions = ImageOptions()
    audio: AudioOptions = AudioOptions()
    video: VideoOptions = VideoOptions()
