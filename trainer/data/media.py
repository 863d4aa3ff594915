"""The media of a sample as what the encoders take: images and windows of sound, in the order of their marks.

Here: decoding a sample's members; a video is its keyframes and its sound track.
Elsewhere: decoding one image (images.py) or recording (sounds.py), placing them among tokens (tokenise.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from shardkit import ShardkitError
from trainer.data.images import Decode, load_image
from trainer.data.sounds import HOP, Floats, count_windows, load_sound, log_mel

if TYPE_CHECKING:
    from shardkit import Item


class Senses(msgspec.Struct, frozen=True, kw_only=True):
    """What the model's encoders take: pixels a side, mel bands, frames a window, latents a piece; 0 means without.

    `most_frames` keyframes of a video and `most_windows` windows of a recording at most.
    """

    image_size: int = 0
    image_latents: int = 0
    decode: Decode = "exact"
    most_frames: int = 8
    mels: int = 0
    window_frames: int = 0
    audio_latents: int = 0
    most_windows: int = 1


class Medium(msgspec.Struct, frozen=True, kw_only=True):
    """One image, recording or video, decoded: images (3, S, S) uint8, windows (mels, frames) with sounding frames.

    `cut_seconds` of sound did not fit the windows.
    """

    modality: str
    images: tuple[NDArray[np.uint8], ...] = ()
    windows: tuple[Floats, ...] = ()
    sounding: tuple[int, ...] = ()
    cut_seconds: float = 0.0


class Undecodable(ShardkitError):
    """A sample's medium is whole in its shard and yet no image or sound that this machine decodes."""

    exit_code = 4


class Unfit(Exception):
    """A sample that this run cannot train on; the reason is a short word for counting."""


def load_media(item: Item, senses: Senses) -> tuple[Medium, ...]:
    """All media of a sample, images first, then recordings, then videos, as the record lists them.

    Raises Unfit where the model has no encoder for them, Undecodable (naming the sample) where one does not decode.
    """
    try:
        return tuple(_load(item, senses))
    except (OSError, ValueError, SyntaxError) as error:
        raise Undecodable(
            f"sample {item.key}: a medium does not decode ({error}); run `shardkit verify --deep` on the dataset"
        ) from None


def _load(item: Item, senses: Senses) -> Iterator[Medium]:
    listed = item.sample.modalities
    if (listed.image or any(video.keyframes for video in listed.video)) and not senses.image_size:
        raise Unfit("blind")
    if (listed.audio or any(video.audio for video in listed.video)) and not senses.mels:
        raise Unfit("deaf")
    for image in listed.image:
        yield Medium(modality="image", images=(_image(item, image.member, senses),))
    for audio in listed.audio:
        yield _sound(item, audio.member, senses, "audio", ())
    for video in listed.video:
        if not video.keyframes and not video.audio:
            raise Unfit("no-keyframes")  # a whole video in a tar that others made
        names = [frame.member for frame in video.keyframes]
        chosen = [names[at] for at in spread(len(names), senses.most_frames)]
        images = tuple(_image(item, name, senses) for name in chosen)
        if video.audio:
            yield _sound(item, video.audio, senses, "video", images)
        else:
            yield Medium(modality="video", images=images)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spaced, first and last included."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(at * (count - 1) / (most - 1)) for at in range(most)]


def _image(item: Item, name: str, senses: Senses) -> NDArray[np.uint8]:
    return load_image(item.members[name], senses.image_size, senses.decode)


def _sound(item: Item, name: str, senses: Senses, modality: str, images: tuple[NDArray[np.uint8], ...]) -> Medium:
    wave = load_sound(item.members[name])
    step = senses.window_frames * HOP
    number = count_windows(len(wave), senses.window_frames, senses.most_windows)
    made = [log_mel(wave[at * step : (at + 1) * step], senses.mels, senses.window_frames) for at in range(number)]
    return Medium(
        modality=modality,
        images=images,
        windows=tuple(window for window, _ in made),
        sounding=tuple(max(1, sounding) for _, sounding in made),
        cut_seconds=max(0, len(wave) - number * step) / 16_000,
    )
