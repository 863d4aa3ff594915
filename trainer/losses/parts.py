"""What a loss tells besides its value: its parts by modality and by source.

Here: the parts of a batch, adding them.
Elsewhere: the losses themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec


class LossParts(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a batch, by modality: `tokens` that carry loss, their losses; `answers`, the means of their losses.

    `source_tokens` and `source_sums` are the first two by source. A loss of pairs or of whole answers counts these in
    place of tokens. `extra` is what a loss tells besides: sums, and of how many, by name.
    """

    tokens: dict[str, int]
    sums: dict[str, float]
    answers: dict[str, int]
    means: dict[str, float]
    source_tokens: dict[str, int] = {}
    source_sums: dict[str, float] = {}
    extra: dict[str, tuple[float, float]] = {}


def parts_of(kinds: Sequence[str], sources: Sequence[str], counts: list[int], totals: list[float]) -> LossParts:
    """The parts of a batch from every sample's modality, source, number of tokens that carry loss, and their loss."""
    counted = [(kind, count, total) for kind, count, total in zip(kinds, counts, totals, strict=True) if count]
    named = zip(sources, counts, totals, strict=True) if sources else ()
    return add_parts(
        [LossParts(tokens={k: n}, sums={k: s}, answers={k: 1}, means={k: s / n}) for k, n, s in counted]
        + [
            LossParts(tokens={}, sums={}, answers={}, means={}, source_tokens={name: n}, source_sums={name: s})
            for name, n, s in named
            if n
        ]
    )


def add_parts(parts: Iterable[LossParts]) -> LossParts:
    """The sums over several batches."""
    total: dict[str, dict[str, Any]] = {name: {} for name in LossParts.__struct_fields__}
    for part in parts:
        for name, sums in total.items():
            for kind, value in getattr(part, name).items():
                sums[kind] = _added(sums[kind], value) if kind in sums else value
    return LossParts(**total)


def _added(one: Any, other: Any) -> Any:
    """Numbers, or pairs of them, added."""
    return tuple(a + b for a, b in zip(one, other, strict=True)) if isinstance(one, tuple) else one + other
