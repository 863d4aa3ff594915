"""Sound as Whisper hears it: windows of log-mel frames with a mask of those that hold sound.

Here: decoding, cutting into windows, the log-mel spectrogram (as WhisperFeatureExtractor, without its padding work).
Elsewhere: which recordings a sample has (media.py), stacking (collate.py).
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
FFT = 400
FLOOR = 1e-10

Floats = NDArray[np.float32]


def load_sound(data: bytes | memoryview) -> Floats:
    """An encoded recording as mono float32 at 16 kHz; raises ValueError for bytes that are no sound."""
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a recording that libsndfile reads: {error}") from None
    mono: Floats = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if rate != RATE:
        import soxr

        mono = soxr.resample(mono, rate, RATE)
    return np.ascontiguousarray(mono, dtype=np.float32)


def count_windows(num_samples: int, frames: int, most: int) -> int:
    """How many windows of `frames` mel frames a recording takes: at least one, at most `most`."""
    return max(1, min(most, -(-num_samples // (frames * HOP))))


def log_mel(wave: Floats, mels: int, frames: int) -> tuple[Floats, int]:
    """One window: (mels, frames) float32 as WhisperFeatureExtractor(feature_size=mels) gives, and its sounding frames.

    `wave` is at most `frames` * 160 samples, shorter ones are padded with silence. The spectrum is computed only where
    there is sound: behind it every frame lies on the floor, 8 decades (2 units) under the loudest.
    The mask is that of transformers: frame i sounds where sample 160 * i is not padding.
    """
    length = frames * HOP
    wave = wave[:length]
    sounding = -(-len(wave) // HOP)
    computed = min(frames, sounding + FFT // HOP + 1)
    needed = min(length, computed * HOP + FFT)
    padded = np.zeros(needed, dtype=np.float32)
    padded[: len(wave)] = wave
    spectrum = _power(np.pad(padded, FFT // 2, mode="reflect"), computed)
    logs = np.log10(np.maximum(mel_filters(mels) @ spectrum, FLOOR))
    top = max(float(logs.max()), float(np.log10(FLOOR)))
    result = np.full((mels, frames), np.log10(FLOOR), dtype=np.float32)
    result[:, :computed] = logs
    return (np.maximum(result, np.float32(top - 8.0)) + np.float32(4.0)) / np.float32(4.0), sounding


def window_of(wave: Floats, mels: int, frames: int, *, waves: bool) -> Floats:
    """A window as it is sent to the encoder: its log-mel frames; or, `waves`, its samples and silence behind them."""
    if not waves:
        return log_mel(wave, mels, frames)[0]
    padded = np.zeros(frames * HOP, dtype=np.float32)
    padded[: len(wave)] = wave[: len(padded)]
    return padded


def _power(wave: Floats, frames: int) -> Floats:
    """Squared magnitudes (201, frames) of Hann-windowed frames."""
    views = np.lib.stride_tricks.sliding_window_view(wave, FFT)[::HOP][:frames]
    spectrum = np.fft.rfft(views * _hann(), axis=-1)
    return np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T, dtype=np.float32)


@lru_cache(maxsize=1)
def _hann() -> Floats:
    return np.hanning(FFT + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=4)
def mel_filters(mels: int) -> Floats:
    """Slaney mel filters (mels, 201), those of Whisper."""
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=1 + FFT // 2,
        num_mel_filters=mels,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.ascontiguousarray(bank.T, dtype=np.float32)
