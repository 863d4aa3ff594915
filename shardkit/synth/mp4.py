"""Encoding pictures and sound to an mp4 whose bytes repeat.

Here: H.264 and PCM through PyAV, with everything off that depends on time, threads or the processor.
Elsewhere: what is shown (screencast).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from shardkit.synth.pcm import RATE

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no encoder's name and no time in the file
ENCODER = "libx264"
QUANTIZER = 20


def encode_mp4(pictures: Iterable[Picture], size: tuple[int, int], fps: int, sound: NDArray[np.int16]) -> bytes:
    """An mp4 of the pictures, a keyframe every half second, and 16 kHz mono sound.

    One thread, a fixed quantizer and no look-ahead keep x264 to integers; the sound is PCM, for FFmpeg's AAC encoder
    computes in floating point.
    """
    import av

    buffer = io.BytesIO()
    group = max(1, fps // 2)
    with av.open(buffer, "w", format="mp4") as container:
        container.flags |= BITEXACT
        video = cast("VideoStream", container.add_stream(ENCODER, rate=fps))
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.color_range = 2
        video.codec_context.colorspace = 5
        video.codec_context.options = {
            "preset": "ultrafast",
            "x264-params": f"qp={QUANTIZER}:keyint={group}:min-keyint={group}:scenecut=0:threads=1:rc-lookahead=0"
            ":mbtree=0:aq-mode=0:bframes=0:fullrange=on",
        }
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for at, picture in enumerate(pictures):
            frame = _frame(picture)
            frame.pts, frame.time_base = at, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        _mux_sound(container, track, sound)
    return buffer.getvalue()


def missing_encoder() -> str:
    """Empty where the encoder is there; else what to do."""
    import av

    return (
        "" if ENCODER in av.codecs_available else f"PyAV was built without {ENCODER}; install its wheel: pip install av"
    )


def encoder_versions() -> dict[str, str]:
    """Versions of what encodes; x264 comes inside PyAV's wheel and writes its own number into every stream."""
    import av

    versions = av.library_versions
    return {"av": av.__version__} | {name: ".".join(map(str, versions[name])) for name in ("libavcodec", "libavformat")}


def _frame(picture: Picture) -> VideoFrame:
    """Planes of full-range BT.601, by Pillow's tables and a mean of four pixels: whole numbers only."""
    import av
    import numpy as np

    luma, *chroma = (np.asarray(plane) for plane in picture.convert("YCbCr").split())
    planes = [luma.reshape(-1)]
    for plane in chroma:
        wide = plane.astype(np.uint16)
        four = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
        planes.append(((four + 2) >> 2).astype(np.uint8).reshape(-1))
    height, width = luma.shape
    frame = av.VideoFrame.from_ndarray(np.concatenate(planes).reshape(height * 3 // 2, width), format="yuv420p")
    frame.color_range, frame.colorspace = 2, 5
    return frame


def _mux_sound(container: OutputContainer, track: AudioStream, sound: NDArray[np.int16]) -> None:
    import av

    step = RATE // 10
    for at in range(0, len(sound), step):
        frame = av.AudioFrame.from_ndarray(sound[at : at + step].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        container.mux(track.encode(frame))
    container.mux(track.encode(None))
