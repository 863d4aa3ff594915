"""The optimizer and its learning rate.

Here: AdamW over what trains, the rate of a step.
Elsewhere: clipping and stepping (step.py).
"""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch

from shardkit import SpecError
from trainer.spec import OptimizerSpec, RunSpec


def make_optimizer(model: torch.nn.Module, spec: RunSpec) -> torch.optim.Optimizer:
    """AdamW over what trains; vectors (norms, biases) are not decayed. Raises SpecError where nothing trains.

    On a GPU in one kernel (fused); `adamw8bit` with moments of 8 bits, in bitsandbytes.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise SpecError("nothing trains: give an encoder or connector, or set model.language.train")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": spec.optimizer.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if spec.optimizer.kind == "adamw8bit":
        return _adamw8bit(groups, spec.optimizer, trained)
    fused = all(parameter.is_cuda for parameter in trained)
    return torch.optim.AdamW(groups, lr=spec.optimizer.rate, betas=spec.optimizer.betas, fused=fused or None)


def _adamw8bit(
    groups: list[dict[str, Any]], spec: OptimizerSpec, trained: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    from torch.distributed.tensor import DTensor

    if any(isinstance(parameter, DTensor) for parameter in trained):
        raise SpecError("optimizer.kind is adamw8bit, which cannot be cut up; use parallel=ddp, or kind=adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise SpecError(
            "optimizer.kind is adamw8bit and bitsandbytes is not installed; install shardkit[train]"
        ) from None
    made: torch.optim.Optimizer = AdamW8bit(groups, lr=spec.rate, betas=spec.betas)
    return made


def rate_at(step: int, steps: int, spec: OptimizerSpec) -> float:
    """The learning rate of a step (from 1): a pure function, so that a scheduler has no state to save."""
    if step <= spec.warmup:
        return spec.rate * step / spec.warmup
    share = (step - spec.warmup) / max(1, steps - spec.warmup)
    return spec.rate * (spec.floor + (1 - spec.floor) * 0.5 * (1 + cos(pi * min(1.0, share))))
