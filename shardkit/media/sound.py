"""Sound decoded to blocks of samples: soundfile for flac, wav and ogg, PyAV for the rest.

Here: one decoder for each format, in a table; each notices a recording that is not all there.
Elsewhere: mixing, resampling and encoding (audio).

The same bytes must give the same samples on every processor. FFmpeg's decoders in floating point do not: compared
under emulation of a processor without AVX, opus, vorbis and eac3 differed. So decoders that compute in integers, or
take one path everywhere, are used in their place; vorbis goes to libvorbis by way of Ogg; eac3 is not taken.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from shardkit.errors import Refused
from shardkit.media.container import allowed_codec, open_container
from shardkit.media.sniff import sniff
from shardkit.media.whole import is_whole

if TYPE_CHECKING:
    import numpy as np
    from av import AudioCodecContext, AudioFrame
    from av.audio.stream import AudioStream
    from numpy.typing import NDArray

BLOCK_FRAMES = 65_536
MAX_CHANNELS = 64
RATES = range(2_000, 400_000)
STEADY_DECODERS = {"aac": "aac_fixed", "mp3float": "mp3", "ac3": "ac3_fixed", "opus": "libopus"}


def decode_sound(data: bytes) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks of a recording: (samples per second, float32 array of (frames, channels) within -1 to 1).

    Raises Refused (`unknown-media`, `audio-damaged`), the latter possibly only at the end.
    """
    kind = sniff("audio", data)
    return DECODERS[kind](data, kind)


def decode_track(container: Any, stream: AudioStream) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks of one sound track of an open container, as `decode_sound` gives them."""
    if allowed_codec(stream, "audio-damaged") == "vorbis":
        yield from _by_soundfile(_as_ogg(container, stream), "ogg", counted=False)
        return
    codec = _decoder(stream)
    rate = channels = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise Refused("audio-damaged", "the container marks a packet as damaged")
        for frame in codec.decode(packet):
            rate, channels = rate or frame.sample_rate, channels or frame.layout.nb_channels
            if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
                raise Refused("audio-damaged", "rate or channels change within the recording")
            yield _sane(rate, channels), _floats(frame, channels)


def _by_soundfile(data: bytes, kind: str, counted: bool = True) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks by libsndfile; `counted` where the number of frames that the file declares is exact."""
    import soundfile

    if not is_whole(kind, data):
        raise Refused("audio-damaged", f"{kind} ends early")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = _sane(file.samplerate, file.channels)
            read = 0
            while len(block := file.read(max(1, BLOCK_FRAMES // file.channels), dtype="float32", always_2d=True)):
                read += len(block)
                yield rate, block
            declared = file.frames
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError):
        raise Refused("audio-damaged", f"{kind} cannot be decoded") from None
    if (
        counted and 0 < declared < 1 << 60 and read != declared
    ):  # libsndfile 1.2 raises by itself; earlier ones read less
        raise Refused("audio-damaged", f"{kind} declares {declared} frames, {read} are there")


def _flac(data: bytes, kind: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """As `_by_soundfile`, and the samples have the MD5 that the encoder wrote, where their width allows the check."""
    import numpy as np

    digest, width = hashlib.md5(usedforsecurity=False), _flac_width(data)
    for rate, block in _by_soundfile(data, kind):
        if width == 2:
            digest.update(np.rint(block * np.float32(32768)).astype("<i2").tobytes())
        elif width == 3:
            whole = np.rint(block.astype(np.float64) * (1 << 23)).astype("<i4")
            digest.update(whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
        yield rate, block
    written = data[26:42]
    if width and written != bytes(16) and digest.digest() != written:
        raise Refused("audio-damaged", "flac samples are not those that were encoded")


def _flac_width(data: bytes) -> int:
    """Bytes of a sample of a FLAC of 16 or 24 bits, by its STREAMINFO, which always comes first; else 0."""
    if len(data) < 42 or data[4] & 0x7F:
        raise Refused("audio-damaged", "flac ends early")
    bits = ((data[20] & 1) << 4 | data[21] >> 4) + 1
    return {16: 2, 24: 3}.get(bits, 0)


def _by_av(data: bytes, kind: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    with open_container(data, kind, "audio-damaged") as container:
        if not container.streams.audio:
            raise Refused("audio-damaged", f"{kind} holds no sound")
        yield from decode_track(container, container.streams.audio[0])


def _as_ogg(container: Any, stream: AudioStream) -> bytes:
    """The packets of a track as an Ogg file."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as ogg:
        track = ogg.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise Refused("audio-damaged", "the container marks a packet as damaged")
            if packet.size:
                packet.stream = track
                ogg.mux(packet)
    return buffer.getvalue()


def _decoder(stream: AudioStream) -> AudioCodecContext:
    import av

    name = allowed_codec(stream, "audio-damaged")
    steady = STEADY_DECODERS.get(name)
    if steady not in av.codecs_available:
        return stream.codec_context
    own = cast("AudioCodecContext", av.CodecContext.create(steady, "r"))
    own.extradata = stream.codec_context.extradata
    own.sample_rate = stream.codec_context.sample_rate
    own.layout = stream.codec_context.layout
    return own


def _floats(frame: AudioFrame, channels: int) -> NDArray[np.float32]:
    """One frame as (frames, channels), whatever its sample format."""
    import numpy as np

    raw = frame.to_ndarray()
    table = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    if table.dtype == np.uint8:
        return (table.astype(np.float32) - np.float32(128)) / np.float32(128)
    if table.dtype.kind == "i":
        return (table.astype(np.float64) / (1 << (8 * table.dtype.itemsize - 1))).astype(np.float32)
    return np.ascontiguousarray(table, dtype=np.float32)


def _sane(rate: int, channels: int) -> int:
    if rate not in RATES or not 1 <= channels <= MAX_CHANNELS:
        raise Refused("audio-damaged", f"{rate} Hz in {channels} channels is no recording")
    return rate


DECODERS: dict[str, Callable[[bytes, str], Iterator[tuple[int, NDArray[np.float32]]]]] = {
    "flac": _flac,
    "wav": _by_soundfile,
    "ogg": _by_soundfile,
    "mp3": _by_av,
    "mp4": _by_av,
    "adts": _by_av,
    "matroska": _by_av,
}
