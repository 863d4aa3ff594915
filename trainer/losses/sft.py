"""Next-token loss on what the assistant says.

Here: the loss, its weighting, its parts by modality.
Elsewhere: dividing by the whole step's weight (loop.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import torch
import torch.nn.functional as F

from trainer.data.collate import IGNORED, TrainBatch
from trainer.spec import LossSpec


class LossParts(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a batch, by modality: `tokens` that carry loss, their losses; `answers`, the means of their losses."""

    tokens: dict[str, int]
    sums: dict[str, float]
    answers: dict[str, int]
    means: dict[str, float]


def answer_weights(batch: TrainBatch, spec: LossSpec) -> torch.Tensor:
    """The weight (B, T - 1) of every predicted token; 0 where the assistant does not speak.

    `token`: 1 each. `sample`: 1 over the number in its sample. `square`: 1 over its root.
    """
    said = (batch.labels[:, 1:] != IGNORED).to(torch.float32)
    counts = batch.per_token(batch.per_sample(said).clamp(min=1.0))
    power = {"token": 0.0, "square": 0.5, "sample": 1.0}[spec.weighting]
    return said / counts.pow(power)


def sft_loss(model: torch.nn.Module, batch: TrainBatch, spec: LossSpec) -> tuple[torch.Tensor, LossParts]:
    """The weighted SUM of the losses of all answer tokens in a batch, and its parts.

    The caller divides by the weight of the whole step, so that accumulation and ranks do not change the result.
    """
    logits = model(batch)[:, :-1].float()
    labels = batch.labels[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    losses = losses.unflatten(0, labels.shape)
    return (losses * answer_weights(batch, spec)).sum(), _parts(batch, losses.detach())


def add_parts(parts: Iterable[LossParts]) -> LossParts:
    """The sums over several batches."""
    total: dict[str, dict[str, Any]] = {name: {} for name in LossParts.__struct_fields__}
    for part in parts:
        for name, sums in total.items():
            for kind, value in getattr(part, name).items():
                sums[kind] = sums.get(kind, 0) + value
    return LossParts(**total)


def _parts(batch: TrainBatch, losses: torch.Tensor) -> LossParts:
    counts = batch.per_sample((batch.labels[:, 1:] != IGNORED).to(torch.int64)).tolist()
    totals = batch.per_sample(losses.double()).tolist()
    return add_parts(
        LossParts(tokens={kind: count}, sums={kind: total}, answers={kind: 1}, means={kind: total / count})
        for kind, count, total in zip(batch.kinds, counts, totals, strict=True)
    )
