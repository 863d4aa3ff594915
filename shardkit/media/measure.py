"""How large a medium is, from its headers alone: pixels, seconds, frames a second.

Here: one function a modality; nothing is decoded.
Elsewhere: the allow-list of formats (sniff.py), decoding (image, sound, video).
"""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal, NamedTuple

from shardkit.errors import Refused
from shardkit.media.container import open_container
from shardkit.media.image import DAMAGE, open_picture
from shardkit.media.sniff import sniff

TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height. Not looked for in PNG, where finding them reads the whole image."""

MAX_PIXELS = 1 << 26
READ_BY_SNDFILE = ("flac", "wav", "ogg", "mp3")


class Measured(NamedTuple):
    """Of an image its size as shown; of sound its seconds and Hz; of a video its seconds, frames a second and size."""

    width: int = 0
    height: int = 0
    seconds: float = 0.0
    rate: float = 0.0


def measure_image(data: bytes) -> Measured:
    """Width and height of an image as shown. Raises Refused (`unknown-media`, `image-damaged`)."""
    kind = sniff("image", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = open_picture(data, kind)
            width, height = picture.size
            turned = kind in ("jpeg", "webp") and picture.getexif().get(0x0112, 1) in TURNED
        except DAMAGE:
            raise Refused("image-damaged", f"{kind} whose header cannot be read") from None
    return Measured(width=height if turned else width, height=width if turned else height)


def measure_sound(data: bytes) -> Measured:
    """Seconds and Hz of a recording. Raises Refused (`unknown-media`, `audio-damaged`)."""
    kind = sniff("audio", data)
    if kind not in READ_BY_SNDFILE:
        return _measure_stream(data, kind, "audio")
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError):
        raise Refused("audio-damaged", f"{kind} whose header cannot be read") from None
    if info.samplerate <= 0 or not 0 <= info.frames < 1 << 40:
        raise Refused("audio-damaged", f"{kind} of an impossible length")
    return Measured(seconds=round(info.frames / info.samplerate, 6), rate=float(info.samplerate))


def measure_video(data: bytes) -> Measured:
    """Seconds, frames a second and size of a video. Raises Refused (`unknown-media`, `video-damaged`)."""
    return _measure_stream(data, sniff("video", data), "video")


def _measure_stream(data: bytes, kind: str, modality: Literal["audio", "video"]) -> Measured:
    """The numbers of the first stream of a modality; its own duration where it has one, else the container's."""
    with open_container(data, kind, f"{modality}-damaged", MAX_PIXELS) as container:
        stream: Any = next((stream for stream in container.streams if stream.type == modality), None)
        if stream is None:
            raise Refused("no-media", f"a container without {modality}")
        own = stream.duration * stream.time_base if stream.duration is not None and stream.time_base else None
        seconds = round(max(0.0, float(own) if own is not None else (container.duration or 0) / 1_000_000), 6)
        if modality == "audio":
            return Measured(seconds=seconds, rate=float(stream.rate or 0))
        return Measured(int(stream.width), int(stream.height), seconds, float(stream.average_rate or 0))
