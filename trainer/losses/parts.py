"""What a loss tells besides its value: its parts by modality.

Here: the parts of a batch, adding them.
Elsewhere: the losses themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class LossParts(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a batch, by modality: `tokens` that carry loss, their losses; `answers`, the means of their losses."""

    tokens: dict[str, int]
    sums: dict[str, float]
    answers: dict[str, int]
    means: dict[str, float]


def add_parts(parts: Iterable[LossParts]) -> LossParts:
    """The sums over several batches."""
    total: dict[str, dict[str, Any]] = {name: {} for name in LossParts.__struct_fields__}
    for part in parts:
        for name, sums in total.items():
            for kind, value in getattr(part, name).items():
                sums[kind] = sums.get(kind, 0) + value
    return LossParts(**total)
