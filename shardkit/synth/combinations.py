"""Combinations that are held out: which ones never occur in what a model is trained on.

Here: the choice, by a hash of the combination alone, so that every seed and every source agrees on it.
Elsewhere: what is combined (shapes.py, dtmf.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from blake3 import blake3

Part = Literal["all", "train", "held_out"]
"""Which combinations a source draws from."""
LEAST_PERCENT, MOST_PERCENT = 5, 50


def is_held_out(name: str, combination: Sequence[str], percent: int) -> bool:
    """Whether a combination of the generator `name` is held out, where about `percent` of a hundred are."""
    word = blake3("\0".join(("shardkit.synth.combination", name, *combination)).encode()).digest(length=4)
    return int.from_bytes(word, "little") * 100 < percent << 32


def is_in(part: Part, name: str, combination: Sequence[str], percent: int) -> bool:
    """Whether a source of this part may draw the combination."""
    return part == "all" or is_held_out(name, combination, percent) == (part == "held_out")


def check_percent(percent: int) -> None:
    """Raises ValueError for a share of which a short list may leave one part empty."""
    if not LEAST_PERCENT <= percent <= MOST_PERCENT:
        raise ValueError(f"held_out_percent is {percent}; between {LEAST_PERCENT} and {MOST_PERCENT}")
