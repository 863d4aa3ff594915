"""In which precision a model's weights are held: what trains in float32, what is frozen as the run computes.

Here: settling it once the model is made; the arithmetic's own, which is autocast's.
Elsewhere: scaling what float16 would lose (trainer.scaler).

A pretrained model comes in the precision of its checkpoint, mostly bfloat16: steps of a small learning rate would be
rounded away there. A frozen weight needs no more than the arithmetic has; in float32 every step would cast it anew.
"""

from __future__ import annotations

import torch
from torch import nn

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def computing(device: torch.device, dtype: str) -> torch.autocast:
    """A context in which matrix products are computed in a run's `dtype`."""
    return torch.autocast(device.type, HALF.get(dtype, torch.bfloat16), enabled=dtype in HALF)


def settle_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Trainable parameters to float32, frozen ones of floating point to `dtype`, in place; quantised ones stay."""
    for parameter in model.parameters():
        wanted = torch.float32 if parameter.requires_grad else dtype
        if parameter.is_floating_point() and parameter.dtype != wanted:
            parameter.data = parameter.data.to(wanted)
