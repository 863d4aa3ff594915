"""Sound: every format becomes the same stored form; what is not whole is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shardkit.errors import Refused, SpecError
from shardkit.media.audio import StoredSound, check_loudness, prepare_audio
from shardkit.media.toolchain import flac_encoder
from shardkit.spec import AudioOptions, Limits
from tests.media.making import SOUNDS, sound, tone, vorbis_in_matroska

DATA = Path(__file__).parents[3] / "shared" / "data" / "audio"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real data is not there")


def stored(data: bytes, limits: Limits | None = None, **options: object) -> StoredSound:
    return prepare_audio(data, AudioOptions(**options), limits or Limits())  # type: ignore[arg-type]


def samples(made: StoredSound) -> NDArray[np.float32]:
    read, rate = soundfile.read(io.BytesIO(made.data), dtype="float32", always_2d=True)
    assert rate == made.sample_rate
    assert read.shape[1] == 1
    return read[:, 0]


def reason(data: bytes, limits: Limits | None = None, **options: object) -> str:
    with pytest.raises(Refused) as caught:
        stored(data, limits, **options)
    return caught.value.reason


def loudest_hertz(wave: NDArray[np.float32], rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))))) * rate / len(wave)


@pytest.mark.parametrize("kind", SOUNDS)
def test_every_format_becomes_flac_16_khz_mono(kind: str) -> None:
    made = stored(SOUNDS[kind]())
    info = soundfile.info(io.BytesIO(made.data))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
    assert made.duration_seconds == pytest.approx(0.5, abs=0.06)
    assert loudest_hertz(samples(made), 16_000) == pytest.approx(440, abs=6)


@pytest.mark.parametrize("kind", SOUNDS)
def test_the_same_bytes_come_out_twice(kind: str) -> None:
    data = SOUNDS[kind]()
    assert stored(data).data == stored(data).data


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_recording_cut_anywhere_is_refused(kind: str) -> None:
    data = SOUNDS[kind]()
    cuts = [*range(8), *range(8, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))]
    if kind == "adts":  # frames that stand alone, with no length declared: a cut between two leaves a whole recording
        cuts = [cut for cut in cuts if data[cut : cut + 2] != data[:2]]
    for cut in cuts:
        assert reason(data[:cut]) in ("audio-damaged", "unknown-media"), cut


def test_vorbis_in_matroska_may_round_its_times() -> None:
    for seconds in (0.3, 1.0, 2.0):
        made = stored(vorbis_in_matroska(seconds))
        assert made.duration_seconds == pytest.approx(seconds, abs=0.03)


def test_8_khz_becomes_16_khz() -> None:
    made = stored(sound("WAV", rate=8_000, seconds=1.0))
    assert len(samples(made)) == 16_000
    assert made.duration_seconds == 1.0


def test_16_bit_samples_at_16_khz_are_unchanged() -> None:
    data = sound("WAV", subtype="PCM_16")
    before, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    after, _ = soundfile.read(io.BytesIO(stored(data).data), dtype="int16")
    assert np.array_equal(before, after)


def test_stereo_becomes_the_mean_of_both() -> None:
    mixed = samples(stored(sound("WAV", channels=2)))
    assert np.abs(mixed - tone()[:, 0] * 0.75).max() < 2 / 32768


def test_a_long_recording_equals_itself_decoded_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound("FLAC", rate=44_100, seconds=4.0)
    many = stored(data).data
    monkeypatch.setattr("shardkit.media.sound.BLOCK_FRAMES", 1 << 30)
    assert stored(data).data == many


@needs_data
def test_jfk_lasts_eleven_seconds() -> None:
    made = stored((DATA / "jfk.flac").read_bytes())
    assert made.duration_seconds == 11.0
    assert len(samples(made)) == 176_000


@needs_data
def test_prompts_keep_their_duration() -> None:
    for path in sorted((DATA / "prompts").glob("*.wav"))[:8]:
        assert stored(path.read_bytes()).duration_seconds == pytest.approx(soundfile.info(path).duration, abs=1e-3)


@needs_data
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99, 0.99999])
def test_real_recordings_cut_short_are_refused(share: float) -> None:
    for path in (DATA / "jfk.flac", DATA / "prompts" / "auth-incorrect.wav"):
        data = path.read_bytes()
        assert reason(data[: int(len(data) * share)]) == "audio-damaged"


def test_a_flipped_bit_in_flac_is_noticed() -> None:
    data = sound("FLAC")
    first_frame = data.index(b"\xff\xf8")
    for at in range(first_frame, len(data), len(data) // 40):
        bad = bytearray(data)
        bad[at] ^= 4
        assert reason(bytes(bad)) == "audio-damaged", at


def test_a_flac_without_a_digest_still_counts_its_samples() -> None:
    data = sound("FLAC")
    plain = data[:26] + bytes(16) + data[42:]
    assert stored(plain).duration_seconds == 0.5
    longer = plain[:25] + bytes([plain[25] + 1]) + plain[26:]
    assert reason(longer) == "audio-damaged"
    assert reason(plain[: data.rindex(b"\xff\xf8")]) == "audio-damaged"


def test_a_flac_whose_digest_is_another_is_refused() -> None:
    for subtype in ("PCM_16", "PCM_24"):
        data = bytearray(sound("FLAC", subtype=subtype))
        data[30] ^= 1
        assert reason(bytes(data)) == "audio-damaged"


def test_a_wav_written_to_a_pipe_has_no_length_and_is_taken() -> None:
    data = bytearray(sound("WAV", subtype="PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert stored(bytes(data)).duration_seconds == pytest.approx(0.5, abs=0.001)


def test_durations_have_bounds() -> None:
    data = sound("WAV", seconds=1.0)
    assert reason(data, min_seconds=1.1) == "too-short"
    assert reason(data, max_seconds=0.9) == "too-long-media"
    assert reason(data, Limits(audio_seconds=0.9)) == "too-long-media"
    assert stored(data, min_seconds=1.0, max_seconds=1.0).duration_seconds == 1.0


def test_a_recording_without_samples_is_too_short() -> None:
    assert reason(sound("WAV", seconds=0.0), min_seconds=0.0) == "too-short"


@pytest.mark.parametrize("data", [b"", b"MThd" + bytes(30), b"FORM\0\0\0\0AIFF", b"#!AMR\n" + bytes(40)])
def test_other_formats_are_refused(data: bytes) -> None:
    assert reason(data) == "unknown-media"


def test_loudness_is_brought_to_the_target() -> None:
    meter = pytest.importorskip("pyloudnorm", reason="pyloudnorm (extra: speech) is not installed").Meter(16_000)
    quiet = sound("WAV", seconds=2.0)
    levelled = samples(stored(quiet, loudness=-30.0))
    assert meter.integrated_loudness(levelled.astype(np.float64)) == pytest.approx(-30.0, abs=0.3)


def test_silence_and_short_clips_keep_their_level() -> None:
    pytest.importorskip("pyloudnorm", reason="pyloudnorm (extra: speech) is not installed")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000), 16_000, format="WAV")
    assert not samples(stored(buffer.getvalue(), loudness=-20.0)).any()
    short = sound("WAV", seconds=0.2)
    assert stored(short, loudness=-20.0).data == stored(short).data


def test_a_missing_package_for_loudness_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyloudnorm", None)
    with pytest.raises(SpecError, match=r"shardkit\[speech\]"):
        check_loudness(AudioOptions(loudness=-20.0))


def test_the_encoder_is_named_as_in_the_files() -> None:
    assert flac_encoder().encode() in stored(sound("WAV")).data
