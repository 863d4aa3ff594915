"""Arithmetic in float16: losses are scaled up, so that small gradients do not vanish, as far as large ones allow.

Here: the scaler of a run, its state, which steps overflowed.
Elsewhere: skipping them (step.py), bad steps (failure.py), the arithmetic itself (model/precision.py).

The scale is halved where a gradient overflows and doubled after 2,000 steps without (Micikevicius et al. 2018,
arXiv:1710.03740): torch's GradScaler. Which step it is, the norm of the gradients tells, as for every other fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from trainer.failure import OVERFLOW

LEAST = 1.0
"""The scale at which an overflow is the model's own: unscaled gradients would not be finite either."""


class Scaler:
    """Scales losses of a run in float16; in other precisions it does nothing. `stored` is what `state` gave before."""

    def __init__(self, device: torch.device, dtype: str, stored: Mapping[str, int | float]) -> None:
        self.is_on = dtype == "float16"
        self._scaler: Any = torch.amp.GradScaler(device.type, enabled=self.is_on)
        if self.is_on and stored:
            self._scaler.load_state_dict(dict(stored))

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss as its backward pass is to begin."""
        scaled: torch.Tensor = self._scaler.scale(loss)
        return scaled

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's gradients as they would be without a scale; to be called once a step."""
        self._scaler.unscale_(optimizer)

    def has_overflowed(self, loss: float, norm: float) -> bool:
        """Whether a step's gradients are not finite for the scale alone: a smaller one may do."""
        lost = self.is_on and math.isfinite(loss) and not math.isfinite(norm)
        return lost and self._scaler.get_scale() > LEAST

    def update(self, bad: str) -> None:
        """Settle the scale of the next step; `bad` is why this one was skipped, if it was."""
        kept = self._scaler.get_scale() if bad and bad != OVERFLOW else None  # that was not the scale's fault
        self._scaler.update(kept)

    def figures(self, overflows: int) -> dict[str, float]:
        """What a line of metrics says of it."""
        return {"overflows": overflows, "loss_scale": self._scaler.get_scale()} if self.is_on else {}

    def state(self) -> dict[str, int | float]:
        """What a checkpoint keeps of it; nothing in other precisions."""
        return dict(self._scaler.state_dict())
