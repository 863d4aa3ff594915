"""Parts of long media, from files that are read by range: keyframes near given times, a stretch of a recording.

Here: decoding only what is asked for, so that only its bytes are fetched.
Elsewhere: the files (read.member), whole videos before they are stored (video.py, frames.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shardkit.errors import Refused, ShardkitError
from shardkit.media.container import allowed_codec, open_file
from shardkit.media.frames import picture_of
from shardkit.media.pixels import MOST_PIXELS
from shardkit.media.sniff import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

MOST_SECONDS = 3600.0


class Moment(NamedTuple):
    """One keyframe: when it is shown, in seconds from the first frame, and its RGB pixels (height, width, 3) uint8."""

    seconds: float
    pixels: NDArray[np.uint8]


def keyframes_near(file: BinaryIO, seconds: Sequence[float], *, max_pixels: int = MOST_PIXELS) -> tuple[Moment, ...]:
    """For each time the keyframe nearest to it, upright; the same keyframe is decoded once and may come several times.

    Where the container lists its frames (mp4, mov) the nearest is chosen from the list; otherwise it is the last one
    at or before the time. Nothing but the list and these keyframes is read. Raises Refused (`unknown-media`,
    `video-damaged`, `too-many-pixels`) and whatever reading the file raises.
    """
    with _reading(file), open_file(file, _video_kind(file), "video-damaged", max_pixels) as container:
        if not container.streams.video:
            raise Refused("video-damaged", "no video stream")
        stream = container.streams.video[0]
        allowed_codec(stream, "video-damaged")
        stream.codec_context.thread_count = 1
        if stream.codec_context.width * stream.codec_context.height > max_pixels:
            raise Refused("too-many-pixels", f"frames have more than {max_pixels} pixels")
        return tuple(_decode(container, stream, seconds))


def sound_between(file: BinaryIO, start: float, end: float) -> tuple[NDArray[np.float32], int]:
    """The samples of a recording from `start` to `end` seconds: (samples, channels) float32, and the rate in Hz.

    For what libsndfile seeks in: WAV, FLAC, Ogg. Shorter where the recording ends first. Raises Refused
    (`audio-damaged`, `too-long-media`) and whatever reading the file raises.
    """
    import soundfile

    if not 0 <= start <= end or end - start > MOST_SECONDS:
        raise Refused("too-long-media", f"from {start:g} to {end:g} s; wanted at most {MOST_SECONDS:g} s, forwards")
    quiet = _Quiet(file)
    with _reading(quiet):
        file.seek(0)
        try:
            with soundfile.SoundFile(quiet) as sound:
                rate = int(sound.samplerate)
                sound.seek(min(round(start * rate), sound.frames))
                samples: NDArray[np.float32] = sound.read(round((end - start) * rate), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError, ValueError):
            raise Refused("audio-damaged", "cannot be decoded") from None
    return samples, rate


class _Quiet:
    """A file whose errors end it and are noted: what a callback from C raises would only be printed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: ShardkitError | None = None
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except ShardkitError as error:
            self.error = error
            return b""

    def write(self, data: bytes) -> int:
        raise OSError("a member is only read")


@contextmanager
def _reading(file: _Quiet | BinaryIO) -> Iterator[None]:
    """What reading the file raised wins over what a library made of it, also where the library went on."""
    try:
        yield
    except Refused:
        _raise_own(file)
        raise
    _raise_own(file)


def _raise_own(file: _Quiet | BinaryIO) -> None:
    error = getattr(file, "error", None)
    if isinstance(error, ShardkitError):
        raise error


def _video_kind(file: BinaryIO) -> str:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return sniff("video", head)


def _decode(container: InputContainer, stream: VideoStream, seconds: Sequence[float]) -> Iterator[Moment]:
    tick = stream.time_base
    if not tick:
        raise Refused("video-damaged", "its times have no unit")
    first = stream.start_time or 0
    listed = _listed(container, stream, first)
    decoded: dict[int, Moment] = {}
    for wanted in seconds:
        time = first + round(max(0.0, wanted) / tick)
        aimed = min(listed, key=lambda at: (abs(at - time), at)) if listed else time
        if aimed not in decoded:
            frame = _keyframe_at(container, stream, aimed)
            shown = first if frame.pts is None else frame.pts
            picture = picture_of(frame, stream)
            decoded[aimed] = Moment(round(float((shown - first) * tick), 6), np.asarray(picture, dtype=np.uint8))
        yield decoded[aimed]


def _listed(container: InputContainer, stream: VideoStream, first: int) -> list[int]:
    """Display times of all keyframes as the container lists them; none where it lists none but the first.

    The list has the times of decoding, which all lie as much before those of display as the first one does.
    Matroska's is read when somebody seeks.
    """
    container.seek(first, stream=stream)
    times = sorted({entry.timestamp for entry in stream.index_entries if entry.is_keyframe})
    return [time - times[0] + first for time in times] if len(times) > 1 else []


def _keyframe_at(container: InputContainer, stream: VideoStream, time: int) -> VideoFrame:
    """The keyframe at a time of the list, or the last one before it: one packet, decoded alone."""
    codec = stream.codec_context
    codec.flush_buffers()
    container.seek(time, stream=stream, backward=True, any_frame=False)
    for packet in container.demux(stream):
        if packet.size and packet.is_keyframe:
            frames = [*codec.decode(packet), *codec.decode(None)]
            codec.flush_buffers()
            if frames:
                return frames[0]
            break
    raise Refused("video-damaged", "a keyframe could not be decoded")
