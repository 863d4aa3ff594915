"""Next-token loss on what the assistant says.

Here: the loss, its weighting, its parts by modality.
Elsewhere: dividing by the whole step's weight (step.py).
"""

from __future__ import annotations

import torch

from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.parts import LossParts, parts_of
from trainer.losses.tokens import token_losses
from trainer.spec import LossSpec


class SftLoss:
    """Cross-entropy of the answers' tokens, weighted as the spec says."""

    teaches: Teaches = "answers"

    def __init__(self, spec: LossSpec) -> None:
        self._spec = spec

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: the sum of its tokens' weights."""
        return answer_weights(batch, self._spec).sum()

    def __call__(self, model: torch.nn.Module, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        losses = token_losses(model, batch)
        return (losses * answer_weights(batch, self._spec)).sum(), _parts(batch, losses.detach())


def answer_weights(batch: TrainBatch, spec: LossSpec) -> torch.Tensor:
    """The weight (B, T - 1) of every predicted token; 0 where the assistant does not speak.

    `token`: 1 each. `sample`: 1 over the number in its sample. `square`: 1 over its root.
    """
    said = (batch.labels[:, 1:] != IGNORED).to(torch.float32)
    counts = batch.per_token(batch.per_sample(said).clamp(min=1.0))
    power = {"token": 0.0, "square": 0.5, "sample": 1.0}[spec.weighting]
    return said / counts.pow(power)


def _parts(batch: TrainBatch, losses: torch.Tensor) -> LossParts:
    counts = batch.per_sample((batch.labels[:, 1:] != IGNORED).to(torch.int64)).tolist()
    totals = batch.per_sample(losses.double()).tolist()
    return parts_of(batch.kinds, batch.sources, counts, totals)
