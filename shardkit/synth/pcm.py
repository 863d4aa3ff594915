"""Sound as integers: a sine table, and WAV bytes.

Here: what generators of sound share.
Elsewhere: FLAC (media.audio).
"""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 16_000
TABLE_BITS = 12
AMPLITUDE = 1 << 14


def wav_bytes(samples: NDArray[np.int16] | bytes, rate: int) -> bytes:
    """A WAV file of 16-bit mono samples (an int16 array, or little-endian bytes)."""
    data = samples if isinstance(samples, bytes) else samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", len(data))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def sine(hertz: float, samples: int, phase: int = 0) -> NDArray[np.int64]:
    """A tone of amplitude 2^14 at `RATE`, from a table and a 32-bit phase that steps by whole numbers."""
    import numpy as np

    step = round(hertz * (1 << 32) / RATE)
    phases = (np.arange(samples, dtype=np.uint64) * np.uint64(step) + np.uint64(phase)) % np.uint64(1 << 32)
    return _table()[(phases >> np.uint64(32 - TABLE_BITS)).astype(np.int64)]


def faded(tone: NDArray[np.int64], edge: int) -> NDArray[np.int64]:
    """A tone whose first and last `edge` samples rise from and fall to silence, so that it does not click."""
    import numpy as np

    ramp = np.minimum(np.arange(len(tone)), np.arange(len(tone))[::-1])
    return tone * np.minimum(ramp, edge) // edge


@cache
def _table() -> NDArray[np.int64]:
    import numpy as np

    size = 1 << TABLE_BITS
    return np.array([round(AMPLITUDE * math.sin(2 * math.pi * at / size)) for at in range(size)], dtype=np.int64)
