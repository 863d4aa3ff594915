"""Random draws that are the same in every Python, for ever.

Here: a stream of draws from (seed, generator, index), by BLAKE3 in its extended-output form.
Elsewhere: what is drawn. Neither `random` nor numpy: their methods change between releases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from blake3 import blake3

T = TypeVar("T")
WORD_BYTES = 4
REFILL_BYTES = 256


class Draws:
    """A stream of draws. Two streams of equal (seed, name, index) are equal; all others have nothing in common."""

    def __init__(self, seed: int, name: str, index: int) -> None:
        self._hash = blake3(f"shardkit.synth\0{name}\0{seed}\0{index}".encode())
        self._taken = 0
        self._buffer = b""

    def word(self) -> int:
        """The next 32 bits."""
        at = self._taken % REFILL_BYTES
        if at == 0:
            self._buffer = self._hash.digest(length=REFILL_BYTES, seek=self._taken)
        self._taken += WORD_BYTES
        return int.from_bytes(self._buffer[at : at + WORD_BYTES], "little")

    def take(self, count: int) -> bytes:
        """The next `count` bytes; what is left of the last word is thrown away."""
        data = self._hash.digest(length=count, seek=self._taken)
        self._taken += -(-count // WORD_BYTES) * WORD_BYTES
        into = self._taken % REFILL_BYTES
        self._buffer = self._hash.digest(length=REFILL_BYTES, seek=self._taken - into)
        return data

    def below(self, bound: int) -> int:
        """A number in [0, bound), all equally likely (words that would favour some are thrown away); bound < 2^32."""
        usable = (1 << 32) - (1 << 32) % bound
        while (word := self.word()) >= usable:
            pass
        return word % bound

    def between(self, low: int, high: int) -> int:
        """A number in [low, high], both included."""
        return low + self.below(high - low + 1)

    def chance(self, part: int, of: int) -> bool:
        """True `part` times out of `of`."""
        return self.below(of) < part

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], count: int) -> tuple[T, ...]:
        """`count` different options, in drawn order (Fisher-Yates)."""
        pool = list(options)
        for at in range(count):
            other = at + self.below(len(pool) - at)
            pool[at], pool[other] = pool[other], pool[at]
        return tuple(pool[:count])
