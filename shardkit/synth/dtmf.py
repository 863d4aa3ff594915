"""Generator of tone-coded digits (DTMF, ITU-T Q.23) with their exact transcript.

Here: clips of a few digits, 16 kHz mono WAV, computed in integers.
Elsewhere: FLAC and checks (media).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkit.synth.combinations import Part, check_percent, is_in
from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters
from shardkit.synth.pcm import RATE, faded, sine, wav_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477)
KEYS = ("123", "456", "789", " 0 ")
TONES = {digit: (ROWS[row], COLUMNS[KEYS[row].index(digit)]) for row in range(4) for digit in KEYS[row].strip()}
"""Digit to its two frequencies in hertz."""
EDGE_SAMPLES = 80


class DtmfParameters(Parameters, frozen=True, kw_only=True):
    """A clip has `least` to `digits` digits; tones and gaps last so many milliseconds, up to a quarter more.

    `combinations` of digits: all, those of training, or the `held_out_percent` that are held out.
    """

    digits: int = 3
    least: int = 1
    tone_milliseconds: int = 200
    gap_milliseconds: int = 80
    combinations: Part = "all"
    held_out_percent: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 100:
            raise ValueError(f"digits is {self.digits}; between 1 and 100")
        if not (40 <= self.tone_milliseconds <= 5000 and 20 <= self.gap_milliseconds <= 5000):
            raise ValueError("tone_milliseconds is at least 40, gap_milliseconds at least 20, both at most 5000")
        if not 1 <= self.least <= self.digits:
            raise ValueError(f"least is {self.least}; between 1 and digits, {self.digits}")
        check_percent(self.held_out_percent)
        if self.combinations != "all" and self.least < 2:
            raise ValueError(
                f"least is {self.least}: single digits cannot be held out, all must be learned; at least 2"
            )


def make_dtmf(draws: Draws, parameters: DtmfParameters) -> Made:
    """Field `text` ("4 0 7"), blob `audio`. Level, phases, lengths and silences are drawn, so that clips differ."""
    import numpy as np

    digits = _digits(draws, parameters)
    level = draws.between(40, 100)
    parts = [_silence(draws, parameters)]
    for digit in digits:
        parts += [_tone(digit, level, draws, parameters), _silence(draws, parameters)]
    samples = np.concatenate(parts).astype(np.int16)
    return Made(fields={"text": " ".join(digits)}, blobs={"audio": wav_bytes(samples, RATE)})


def _digits(draws: Draws, parameters: DtmfParameters) -> list[str]:
    """Digits of the source's part: drawn again where they belong to the other one."""
    while True:
        digits = [draws.choice("0123456789") for _ in range(draws.between(parameters.least, parameters.digits))]
        if is_in(parameters.combinations, "dtmf", digits, parameters.held_out_percent):
            return digits


def _tone(digit: str, level: int, draws: Draws, parameters: DtmfParameters) -> NDArray[np.int64]:
    samples = _length(parameters.tone_milliseconds, draws)
    low, high = (sine(hertz, samples, draws.word()) for hertz in TONES[digit])
    return faded((low + high) * level // 110, EDGE_SAMPLES)


def _silence(draws: Draws, parameters: DtmfParameters) -> NDArray[np.int64]:
    import numpy as np

    return np.zeros(_length(parameters.gap_milliseconds, draws), dtype=np.int64)


def _length(milliseconds: int, draws: Draws) -> int:
    """Samples of at least so many milliseconds, up to a quarter more."""
    least = milliseconds * RATE // 1000
    return least + draws.below(least // 4 + 1)


DTMF = Generator(name="dtmf", version=1, parameters=DtmfParameters, row=make_dtmf)
