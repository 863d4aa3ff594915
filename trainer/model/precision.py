"""In which precision a model's weights are held: what trains in float32, what is frozen as the run computes.

Here: settling it once the model is made.
Elsewhere: the precision of the arithmetic itself, which is autocast's (step.py).

A pretrained model comes in the precision of its checkpoint, mostly bfloat16: steps of a small learning rate would be
rounded away there. A frozen weight needs no more than the arithmetic has; in float32 every step would cast it anew.
"""

from __future__ import annotations

import torch
from torch import nn


def settle_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Trainable parameters to float32, frozen ones of floating point to `dtype`, in place; quantised ones stay."""
    for parameter in model.parameters():
        wanted = torch.float32 if parameter.requires_grad else dtype
        if parameter.is_floating_point() and parameter.dtype != wanted:
            parameter.data = parameter.data.to(wanted)
