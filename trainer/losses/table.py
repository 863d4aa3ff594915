"""The table of losses.

Here: what every loss offers to the step, and which one a spec names.
Elsewhere: the losses, a file each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from trainer.data.collate import TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.contrastive import ContrastiveLoss
from trainer.losses.distil import DistilLoss
from trainer.losses.fusion import FusionLoss
from trainer.losses.kto import KtoLoss
from trainer.losses.language import LanguageLoss
from trainer.losses.parts import LossParts
from trainer.losses.preference import RULES, PreferenceLoss
from trainer.losses.sft import SftLoss
from trainer.spec import LossSpec


class Loss(Protocol):
    """A loss as a step takes it: sums over a batch, divided by the weight of the whole step.

    So accumulation and ranks do not change the result. `teaches` says which tokens of its batches carry loss. A loss
    that has a `prepare(model)` is told the model before it trains (see objective.py); one that computes forward passes
    besides the model's own names them in `passes(model)`, each with its model and how often.
    """

    @property
    def teaches(self) -> Teaches:
        """What of a sample carries loss: the Speech that encodes its batches is told so."""
        ...

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """The weight () of a batch: what its loss counts beside the step's other batches."""
        ...

    def __call__(self, model: torch.nn.Module, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """The weighted SUM () of a batch's losses, and its parts."""
        ...


LOSSES: dict[str, Callable[[LossSpec], Loss]] = {
    "sft": SftLoss,
    "language": LanguageLoss,
    "distil": DistilLoss,
    **dict.fromkeys(RULES, PreferenceLoss),
    "kto": KtoLoss,
    "fusion": FusionLoss,
    "contrastive": ContrastiveLoss,
}


def make_loss(spec: LossSpec) -> Loss:
    """The loss that a spec names."""
    return LOSSES[spec.name](spec)
