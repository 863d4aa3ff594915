"""Whether the numbers of a model are finite.

Here: looking for the first that is not.
Elsewhere: what is done then (export, eval).
"""

from __future__ import annotations

import torch
from torch import nn


def first_not_finite(model: nn.Module) -> str:
    """The name of the first parameter that holds NaN or an infinity, or buffer that holds NaN; empty where none does.

    A buffer may hold infinities on purpose, such as a mask.
    """
    for name, value in model.named_parameters():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and bool(torch.isnan(buffer).any()):
            return name
    return ""
