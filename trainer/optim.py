"""The optimizer and its learning rate.

Here: AdamW over what trains, the rate of a step.
Elsewhere: clipping and stepping (step.py).
"""

from __future__ import annotations

from math import cos, pi

import torch

from shardkit import SpecError
from trainer.spec import OptimizerSpec, RunSpec


def make_optimizer(model: torch.nn.Module, spec: RunSpec) -> torch.optim.Optimizer:
    """AdamW over what trains; vectors (norms, biases) are not decayed. Raises SpecError where nothing trains."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise SpecError("nothing trains: give an encoder or connector, or set model.language.train")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.optimizer.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.optimizer.rate, betas=spec.optimizer.betas)


def rate_at(step: int, steps: int, spec: OptimizerSpec) -> float:
    """The learning rate of a step (from 1): a pure function, so that a scheduler has no state to save."""
    if step <= spec.warmup:
        return spec.rate * step / spec.warmup
    share = (step - spec.warmup) / max(1, steps - spec.warmup)
    return spec.rate * (spec.floor + (1 - spec.floor) * 0.5 * (1 + cos(pi * min(1.0, share))))
