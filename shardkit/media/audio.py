"""Sound in its stored form: mono, resampled, 16-bit FLAC.

Here: mixing, resampling, loudness, bounds of duration, encoding; all block by block.
Elsewhere: decoding (sound).

The FLAC level keeps to fixed predictors, which libFLAC computes in integers: its better levels fit predictors in
floating point with whatever vector instructions the processor has, so their bytes may differ between machines.
Measured on 11 s of speech: 12% larger than the default level. soxr takes the same path on every x86-64.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from shardkit.errors import Refused, SpecError
from shardkit.media.sound import decode_sound
from shardkit.spec import AudioOptions, Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FLAC_LEVEL = 2 / 8
RESAMPLER = "HQ"
LOUDNESS_BLOCK_SECONDS = 0.4


class StoredSound(msgspec.Struct, frozen=True, kw_only=True):
    """One recording ready to be stored: FLAC bytes, seconds, samples per second."""

    data: bytes
    duration_seconds: float
    sample_rate: int


def prepare_audio(data: bytes, options: AudioOptions, limits: Limits) -> StoredSound:
    """A recording of any allowed format in its stored form.

    Raises Refused (`unknown-media`, `audio-damaged`, `too-short`, `too-long-media`).
    """
    return store_sound(decode_sound(data), options, longest_seconds(options, limits.audio_seconds))


def longest_seconds(options: AudioOptions, limit: float) -> float:
    """The bound on a recording's duration that the source's options and the build's limit leave."""
    return limit if options.max_seconds is None else min(limit, options.max_seconds)


def store_sound(
    blocks: Iterable[tuple[int, NDArray[np.float32]]], options: AudioOptions, longest: float
) -> StoredSound:
    """Decoded blocks as stored sound; stops decoding as soon as `longest` seconds are passed. Raises Refused."""
    import soundfile

    mono = _resample(_mono(blocks, longest), options.sample_rate)
    if options.loudness is not None:
        mono = _level(mono, options.sample_rate, options.loudness)
    buffer, written = io.BytesIO(), 0
    with soundfile.SoundFile(
        buffer, "w", options.sample_rate, 1, subtype="PCM_16", format="FLAC", compression_level=FLAC_LEVEL
    ) as file:
        for block in mono:
            file.write(_integers(block))
            written += len(block)
    seconds = written / options.sample_rate
    if seconds < options.min_seconds or not written:
        raise Refused("too-short", f"{seconds:.3f} s, wanted at least {options.min_seconds} s")
    return StoredSound(data=buffer.getvalue(), duration_seconds=round(seconds, 6), sample_rate=options.sample_rate)


def check_loudness(options: AudioOptions) -> None:
    """Raise SpecError where `loudness` is asked for and its package is missing."""
    if options.loudness is None:
        return
    try:
        import pyloudnorm  # noqa: F401
    except ImportError:
        raise SpecError(
            "media.audio.loudness needs the package pyloudnorm; install it with `pip install 'shardkit[speech]'`"
        ) from None


def _mono(
    blocks: Iterable[tuple[int, NDArray[np.float32]]], longest: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """One channel, the mean of all. Channels are added one by one: an order that no library version changes."""
    import numpy as np

    frames = 0
    for rate, block in blocks:
        frames += len(block)
        if frames > longest * rate:
            raise Refused("too-long-media", f"longer than {longest:g} s")
        channels = block.shape[1]
        total = block[:, 0].astype(np.float64)
        for at in range(1, channels):
            total += block[:, at]
        mixed = (total / channels).astype(np.float32)
        yield rate, np.nan_to_num(mixed, nan=0.0, posinf=1.0, neginf=-1.0)


def _resample(blocks: Iterable[tuple[int, NDArray[np.float32]]], wanted: int) -> Iterator[NDArray[np.float32]]:
    """Blocks at another rate; soxr gives the same samples for one block or many."""
    import numpy as np
    import soxr

    stream = None
    for rate, block in blocks:
        if rate == wanted:
            yield block
            continue
        stream = stream or soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality=RESAMPLER)
        yield stream.resample_chunk(block)
    if stream:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _level(blocks: Iterable[NDArray[np.float32]], rate: int, target: float) -> Iterator[NDArray[np.float32]]:
    """All blocks as one, at a loudness in LUFS (ITU-R BS.1770). Silence and clips under 0.4 s stay as they are."""
    import numpy as np
    import pyloudnorm

    whole = np.concatenate([np.zeros(0, np.float32), *blocks])
    if len(whole) >= LOUDNESS_BLOCK_SECONDS * rate:
        found = float(pyloudnorm.Meter(rate).integrated_loudness(whole.astype(np.float64)))
        if math.isfinite(found):
            peak = float(np.max(np.abs(whole))) or 1.0
            gain = min(10 ** ((target - found) / 20), 1.0 / peak)  # louder is fine, clipped is not
            whole = (whole * np.float32(gain)).astype(np.float32)
    yield whole


def _integers(block: NDArray[np.float32]) -> NDArray[np.int16]:
    import numpy as np

    rounded: NDArray[np.int16] = np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)
    return rounded
