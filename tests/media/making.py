"""Tiny media made on the spot: pictures, tones and clips in every format that is taken."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from shardkit.records.row import Draft, RawMedium


def picture(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """A gradient with a red left half: which way is up can be told from it."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([(columns < width // 2) * 255, rows * 255 // height, columns * 255 // width], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8), "RGB").convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(), kind, exif=exif.tobytes())


def tone(seconds: float = 0.5, rate: int = 16_000, channels: int = 1, hertz: float = 440.0) -> NDArray[np.float32]:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return np.stack([wave / (1 + at) for at in range(channels)], axis=1).astype(np.float32)


def sound(kind: str, rate: int = 16_000, channels: int = 1, seconds: float = 0.5, **options: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seconds, rate, channels), rate, format=kind, **options)
    return buffer.getvalue()


def av_sound(container: str, codec: str, rate: int = 44_100, seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=rate, layout="stereo")
        _encode_sound(out, stream, tone(seconds, rate, 2), rate)
    return buffer.getvalue()


def vorbis_in_matroska(seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    ogg = sound("OGG", subtype="VORBIS", rate=44_100, channels=2, seconds=seconds)
    with av.open(io.BytesIO(ogg)) as source, av.open(buffer, "w", format="matroska") as out:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = track
                out.mux(packet)
    return buffer.getvalue()


def clip(container: str = "mp4", codec: str = "libx264", **options: Any) -> bytes:
    """A clip of `frames` frames at `fps`, a keyframe every `gop`, with sound unless `sound` is empty.

    `rotation` is written as the display matrix; `size` is (width, height) as coded; `aspect` is a
    pixel's; `start` frames are left out before the first.
    """
    frames, fps, gop = options.get("frames", 24), options.get("fps", 12), options.get("gop", 4)
    size, audio = options.get("size", (64, 48)), options.get("sound", "aac")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        video: Any = out.add_stream(codec, rate=fps)
        video.width, video.height = size
        video.pix_fmt = options.get("pix_fmt", "yuv420p")
        video.codec_context.gop_size = gop
        video.codec_context.thread_count = 1
        video.codec_context.options = (
            {"x264-params": f"scenecut=0:keyint={gop}:min-keyint={gop}"} if codec == "libx264" else {}
        )
        if "aspect" in options:
            video.codec_context.sample_aspect_ratio = options["aspect"]
        if "rotation" in options:
            video.set_display_rotation(options["rotation"])
        track: Any = out.add_stream(audio, rate=48_000, layout="stereo") if audio else None
        for at in range(frames):
            frame = av.VideoFrame.from_image(picture(*size))
            frame.pts, frame.time_base = options.get("start", 0) + at, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if track is not None:
            _encode_sound(out, track, tone(frames / fps, 48_000, 2), 48_000)
    return buffer.getvalue()


def _encode_sound(out: Any, stream: Any, samples: NDArray[np.float32], rate: int) -> None:
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=rate, frame_size=1024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for part in (frame, None):
        for ready in resampler.resample(part):
            out.mux(stream.encode(ready))
    out.mux(stream.encode(None))


def draft(*media: tuple[str, str, bytes]) -> Draft:
    raw = tuple(RawMedium(modality=modality, type=kind, data=data) for modality, kind, data in media)  # type: ignore[arg-type]
    return Draft(id="1", media=raw, domain="d", category="c", source="s")


IMAGES: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(picture(), "PNG"),
    "jpeg": lambda: encoded(picture(), "JPEG", quality=90),
    "progressive jpeg": lambda: encoded(picture(), "JPEG", progressive=True),
    "webp": lambda: encoded(picture(), "WEBP"),
    "gif": lambda: encoded(picture(mode="P"), "GIF"),
    "bmp": lambda: encoded(picture(), "BMP"),
}
SOUNDS: dict[str, Callable[[], bytes]] = {
    "wav": lambda: sound("WAV"),
    "flac": lambda: sound("FLAC"),
    "flac 24": lambda: sound("FLAC", subtype="PCM_24"),
    "ogg": lambda: sound("OGG", subtype="VORBIS"),
    "mp3": lambda: av_sound("mp3", "libmp3lame"),
    "m4a": lambda: av_sound("mp4", "aac"),
    "adts": lambda: av_sound("adts", "aac"),
    "webm": lambda: av_sound("webm", "libopus", rate=48_000),
    "matroska vorbis": vorbis_in_matroska,
}
VIDEOS: dict[str, Callable[[], bytes]] = {
    "mp4": clip,
    "mov": lambda: clip("mov"),
    "matroska": lambda: clip("matroska"),
    "webm": lambda: clip("webm", "libvpx", sound="libopus"),
    "avi": lambda: clip("avi", "mpeg4", sound="libmp3lame"),
}
