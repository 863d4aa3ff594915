"""Tone digits and speech: what is heard is what the text says."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shardkit.errors import SourceFailed
from shardkit.synth.draws import Draws
from shardkit.synth.dtmf import TONES
from shardkit.synth.pcm import AMPLITUDE, faded, sine, wav_bytes
from shardkit.synth.speech import COMMANDS, INSTALL, sentence
from shardkit.synth.table import GENERATORS

SPEECH = GENERATORS["speech"]
needs_espeak = pytest.mark.skipif(bool(SPEECH.missing_tool()), reason="espeak-ng is not installed")


def heard(blob: bytes) -> tuple[NDArray[np.float64], int]:
    samples, rate = soundfile.read(io.BytesIO(blob))
    return samples, rate


def dialled(samples: NDArray[np.float64], rate: int) -> str:
    """The digits of a clip, found by silence and by the strongest tone of each group."""
    loud = np.convolve(np.abs(samples), np.ones(160) / 160, "same") > 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    digits = ""
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        part = samples[start:stop]
        power = lambda hertz, wave=part: abs(np.exp(-2j * np.pi * hertz * np.arange(len(wave)) / rate) @ wave)  # noqa: E731
        digits += max(TONES, key=lambda digit: sum(power(hertz) for hertz in TONES[digit]))
    return " ".join(digits)


def test_tones_are_those_of_the_keypad() -> None:
    assert TONES["1"] == (697, 1209)
    assert TONES["0"] == (941, 1336)
    assert TONES["9"] == (852, 1477)
    assert len(TONES) == 10


@pytest.mark.parametrize("digits", [1, 3, 8])
def test_every_clip_says_what_its_text_says(digits: int) -> None:
    texts = []
    for index in range(40):
        row = GENERATORS["dtmf"].make(7, index, {"digits": digits})
        samples, rate = heard(row.blobs["audio"])
        assert rate == 16_000
        assert dialled(samples, rate) == row.fields["text"]
        texts.append(row.fields["text"])
    assert {len(text.split()) for text in texts} == set(range(1, digits + 1))


def test_clips_of_the_same_digit_differ() -> None:
    rows = [GENERATORS["dtmf"].make(7, index, {"digits": 1}) for index in range(300)]
    assert len({row.blobs["audio"] for row in rows}) == 300
    assert {row.fields["text"] for row in rows} == set("0123456789")


def test_a_clip_never_clips() -> None:
    for index in range(40):
        samples, _ = heard(GENERATORS["dtmf"].make(7, index, {}).blobs["audio"])
        assert 0.2 < np.abs(samples).max() < 0.99


def test_a_tone_has_its_frequency_and_soft_ends() -> None:
    tone = faded(sine(1000, 16_000), 80)
    spectrum = np.abs(np.fft.rfft(tone))
    assert spectrum.argmax() == 1000
    assert tone[0] == tone[-1] == 0
    assert abs(tone).max() == AMPLITUDE


def test_wav_bytes_are_read_back() -> None:
    samples, rate = soundfile.read(io.BytesIO(wav_bytes(np.array([1, -2, 3], np.int16), 8_000)), dtype="int16")
    assert samples.tolist() == [1, -2, 3]
    assert rate == 8_000


@needs_espeak
def test_speech_is_as_long_as_its_text_and_its_header_is_true() -> None:
    for index in range(5):
        row = SPEECH.make(7, index, {})
        blob = row.blobs["audio"]
        samples, rate = heard(blob)
        assert 0.5 + len(row.fields["text"]) * 0.03 < len(samples) / rate < 1.5 + len(row.fields["text"]) * 0.12
        assert struct.unpack_from("<I", blob, 40)[0] == len(blob) - 44
        assert np.abs(samples).max() > 0.05


@needs_espeak
def test_commands_are_few_and_clips_differ() -> None:
    rows = [SPEECH.make(7, index, {"texts": "commands"}) for index in range(40)]
    assert {row.fields["text"] for row in rows} <= set(COMMANDS)
    assert len({row.blobs["audio"] for row in rows}) >= 38


@needs_espeak
def test_spoken_digits_are_words() -> None:
    words = SPEECH.make(7, 0, {"texts": "digits"}).fields["text"].split()
    assert 1 <= len(words) <= 3


@needs_espeak
def test_an_unknown_voice_is_a_clear_error() -> None:
    with pytest.raises(SourceFailed, match="espeak-ng"):
        SPEECH.make(7, 0, {"voice": "nosuchvoice"})


def test_without_espeak_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert SPEECH.missing_tool() == INSTALL
    with pytest.raises(SourceFailed, match="apt-get install espeak-ng"):
        SPEECH.make(7, 0, {})


def test_sentences_are_many() -> None:
    sentences = {sentence(Draws(7, "sentences", index)) for index in range(2000)}
    assert len(sentences) > 1800
