"""How many different things went by, in little memory.

Here: the sketch.
Elsewhere: what is counted (quality.py).
"""

from __future__ import annotations

import xxhash

KEPT = 1 << 16
"""Up to so many different things the count is exact; beyond, its error is about 1 / sqrt(KEPT), 0.4%."""


class Distinct:
    """Counts different texts: the KEPT smallest of their hashes say how dense they lie (bottom-k sketch).

    Source: Bar-Yossef et al., Counting Distinct Elements in a Data Stream, 2002. The order of texts has no influence.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._hashes: set[int] = set()
        self._above = 1 << 64

    def add(self, text: str) -> None:
        """Count a text."""
        found = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        if found < self._above:
            self._hashes.add(found)
            if len(self._hashes) >= 2 * self._kept:
                self._shrink()

    @property
    def count(self) -> int:
        """How many different texts there were, nearly."""
        if len(self._hashes) > self._kept:
            self._shrink()
        if self._above == 1 << 64:
            return len(self._hashes)
        return round((self._kept - 1) * (1 << 64) / max(self._hashes))

    def _shrink(self) -> None:
        least = sorted(self._hashes)[: self._kept]
        self._hashes, self._above = set(least), least[-1] + 1
