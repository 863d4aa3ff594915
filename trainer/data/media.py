"""The media of a sample as what the encoders take: images and windows of sound, in the order of their marks.

Here: decoding a sample's members; a video is its keyframes and its sound track.
Elsewhere: decoding one image (images.py) or recording (sounds.py), placing them among tokens (tokenise.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from shardkit import ShardkitError
from trainer.data.images import Decode, load_image
from trainer.data.later import LaterImage, LaterWindow
from trainer.data.sounds import HOP, Floats, count_windows, load_sound, window_of

if TYPE_CHECKING:
    from shardkit import Item


class Senses(msgspec.Struct, frozen=True, kw_only=True):
    """What the model's encoders take: pixels a side, mel bands, frames a window, latents a piece; 0 means without.

    `most_frames` keyframes of a video and `most_windows` windows of a recording at most. `waves`: the encoder takes the
    samples of a window and makes its log-mel frames itself.
    """

    image_size: int = 0
    image_latents: int = 0
    decode: Decode = "exact"
    most_frames: int = 8
    mels: int = 0
    window_frames: int = 0
    waves: bool = False
    audio_latents: int = 0
    most_windows: int = 1


Image: TypeAlias = NDArray[np.uint8] | LaterImage
Window: TypeAlias = Floats | LaterWindow


class Medium(msgspec.Struct, frozen=True, kw_only=True):
    """One image, recording or video, decoded: images (3, S, S) uint8, windows (mels, frames) with sounding frames.

    Or what stands for them until they are needed (later.py).
    `cut_seconds` of sound did not fit the windows.
    """

    modality: str
    images: tuple[Image, ...] = ()
    windows: tuple[Window, ...] = ()
    sounding: tuple[int, ...] = ()
    cut_seconds: float = 0.0


class Undecodable(ShardkitError):
    """A sample's medium is whole in its shard and yet no image or sound that this machine decodes."""

    exit_code = 4


class Unfit(Exception):
    """A sample that this run cannot train on; the reason is a short word for counting."""


def load_media(item: Item, senses: Senses, later: bool = False) -> tuple[Medium, ...]:
    """All media of a sample, images first, then recordings, then videos, as the record lists them.

    `later`: not decoded further than their numbers and lengths need. Raises Unfit where the model has no encoder for
    them, Undecodable (naming the sample) where one does not decode.
    """
    try:
        return tuple(_load(item, senses, later))
    except (OSError, ValueError, SyntaxError) as error:
        raise undecodable(item.key, error) from None


def undecodable(key: str, error: Exception) -> Undecodable:
    """The error for a sample of which a medium does not decode."""
    return Undecodable(f"sample {key}: a medium does not decode ({error}); run `shardkit verify --deep` on the dataset")


def _load(item: Item, senses: Senses, later: bool) -> Iterator[Medium]:
    listed = item.sample.modalities
    if (listed.image or any(video.keyframes for video in listed.video)) and not senses.image_size:
        raise Unfit("blind")
    if (listed.audio or any(video.audio for video in listed.video)) and not senses.mels:
        raise Unfit("deaf")
    for image in listed.image:
        yield Medium(modality="image", images=(_image(item, image.member, senses, later),))
    for audio in listed.audio:
        yield _sound(item, audio.member, senses, later)
    for video in listed.video:
        if not video.keyframes and not video.audio:
            raise Unfit("no-keyframes")  # a whole video in a tar that others made
        names = [frame.member for frame in video.keyframes]
        chosen = [names[at] for at in spread(len(names), senses.most_frames)]
        images = tuple(_image(item, name, senses, later) for name in chosen)
        if video.audio:
            track = _sound(item, video.audio, senses, later)
            yield msgspec.structs.replace(track, modality="video", images=images)
        else:
            yield Medium(modality="video", images=images)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spaced, first and last included."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(at * (count - 1) / (most - 1)) for at in range(most)]


def _image(item: Item, name: str, senses: Senses, later: bool) -> Image:
    if later:
        return LaterImage(data=bytes(item.members[name]), size=senses.image_size, decode=senses.decode)
    return load_image(item.members[name], senses.image_size, senses.decode)


def _sound(item: Item, name: str, senses: Senses, later: bool) -> Medium:
    wave = load_sound(item.members[name])
    mels, frames = senses.mels, senses.window_frames
    step = frames * HOP
    number = count_windows(len(wave), frames, senses.most_windows)
    lengths = [len(wave[at * step : (at + 1) * step]) for at in range(number)]
    windows: tuple[Window, ...]
    if later:
        data = bytes(item.members[name])
        windows = tuple(
            LaterWindow(data=data, at=at, mels=mels, frames=frames, waves=senses.waves) for at in range(number)
        )
    else:
        parts = [wave[at * step : (at + 1) * step] for at in range(number)]
        windows = tuple(window_of(part, mels, frames, waves=senses.waves) for part in parts)
    return Medium(
        modality="audio",
        windows=windows,
        sounding=tuple(max(1, -(-length // HOP)) for length in lengths),
        cut_seconds=max(0, len(wave) - number * step) / 16_000,
    )
