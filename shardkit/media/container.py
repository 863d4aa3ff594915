"""Containers that PyAV opens, with every door shut that hostile bytes could use.

Here: opening from memory with an explicit format, an allow-list of codecs and no nested files; errors as refusals.
Elsewhere: what is done with the streams (sound, frames).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from shardkit.errors import Refused
from shardkit.media.whole import is_whole

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg",
                "prores", "h263", "theora")  # fmt: skip
AUDIO_CODECS = ("aac", "aac_fixed", "mp3", "mp3float", "mp2", "mp2float", "ac3", "ac3_fixed", "opus", "libopus",
                "vorbis", "flac", "alac", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
                "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_alaw", "pcm_mulaw")  # fmt: skip
DEMUXERS = {"mp4": "mp4", "matroska": "matroska", "avi": "avi", "mp3": "mp3", "adts": "aac"}


@contextmanager
def open_container(data: bytes, kind: str, reason: str, max_pixels: int = 1) -> Iterator[InputContainer]:
    """An open container of a format of sniff.py; one thread, no protocol, no file but these bytes.

    Whatever goes wrong inside the context in FFmpeg becomes Refused with `reason`.
    """
    if not is_whole(kind, data):
        raise Refused(reason, f"{kind} ends early")
    with open_file(io.BytesIO(data), kind, reason, max_pixels) as container:
        yield container


@contextmanager
def open_file(file: BinaryIO, kind: str, reason: str, max_pixels: int = 1) -> Iterator[InputContainer]:
    """The same over a seekable file, of which only what is needed is read; whether it is whole is not looked at."""
    import av

    options = {
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(VIDEO_CODECS + AUDIO_CODECS),
        "max_pixels": str(max_pixels),
        "threads": "1",
    }
    try:
        opened = av.open(file, "r", format=DEMUXERS[kind], options=options, metadata_errors="replace", io_open=_refuse)
        with opened as container:
            yield container
    except MemoryError:
        raise Refused(reason, f"{kind} asks for more memory than there is") from None
    except (av.FFmpegError, ValueError, TypeError, OverflowError, IndexError, ArithmeticError, EOFError):
        raise Refused(reason, f"{kind} cannot be decoded") from None


def allowed_codec(stream: Stream, reason: str) -> str:
    """The name of a stream's codec where it is on the list; raises Refused."""
    name = str(getattr(stream.codec_context, "name", ""))  # no context where the container names no known codec
    if name not in VIDEO_CODECS + AUDIO_CODECS:
        raise Refused(reason, "codec not on the allow-list")
    return name


def _refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise ValueError("a medium names another file")
