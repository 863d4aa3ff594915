"""Sound reaches Whisper as transformers' own extractor would send it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import WhisperFeatureExtractor

from trainer.data.sounds import count_windows, load_sound, log_mel

TOLERANCE = 1e-2


def wave_of(samples: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    return (0.3 * np.sin(2 * np.pi * 523 * time) + 0.02 * random.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [1, 159, 160, 16_000, 70_001, 63_900, 64_000, 64_001])
def test_log_mel_equals_the_transformers_extractor(mels: int, samples: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=4)
    wave = wave_of(samples)
    wanted = extractor(wave, sampling_rate=16_000, return_attention_mask=True, return_tensors="np")
    found, sounding = log_mel(wave, mels, 400)
    assert np.abs(found - wanted["input_features"][0]).max() < TOLERANCE
    assert sounding == wanted["attention_mask"][0].sum()


def test_log_mel_equals_the_extractor_on_silence_and_on_loud_noise() -> None:
    extractor = WhisperFeatureExtractor(chunk_length=4)
    for wave in (np.zeros(20_000, np.float32), np.random.default_rng(1).uniform(-1, 1, 50_000).astype(np.float32)):
        wanted = extractor(wave, sampling_rate=16_000, return_tensors="np")["input_features"][0]
        assert np.abs(log_mel(wave, 80, 400)[0] - wanted).max() < TOLERANCE


def test_log_mel_equals_the_extractor_on_real_speech(shared_data: Path) -> None:
    wave = load_sound((shared_data / "audio" / "jfk.flac").read_bytes())  # 44.1 kHz stereo
    wanted = WhisperFeatureExtractor(feature_size=128)(wave, sampling_rate=16_000, return_tensors="np")
    found, sounding = log_mel(wave, 128, 3000)
    assert np.abs(found - wanted["input_features"][0]).max() < TOLERANCE
    assert sounding == -(-len(wave) // 160)
    assert 10.9 < len(wave) / 16_000 < 11.1


def test_recordings_of_other_rates_and_channels_become_mono_at_16_khz() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.stack([wave_of(44_100), wave_of(44_100)], axis=1), 44_100, format="WAV")
    assert len(load_sound(out.getvalue())) == pytest.approx(16_000, abs=2)


def test_long_recordings_take_more_windows_up_to_the_limit() -> None:
    assert [count_windows(n, 100, 3) for n in (1, 16_000, 16_001, 48_000, 99_000)] == [1, 1, 2, 3, 3]


def test_bytes_that_are_no_recording_are_an_error() -> None:
    with pytest.raises(ValueError, match="not a recording"):
        load_sound(b"fLaC but no more")
