"""The reference of a preference loss: the policy with the weights that it had when the run began.

Here: keeping those weights, computing with them.
Elsewhere: the losses that compare with it (preference.py, kto.py), checking a resumed run's (objective.py).

All that trains is kept, adapters and connectors alike: with adapters merely switched off, a policy that began with
trained adapters, or whose connectors train too, would be compared with something that it never was. What is frozen is
shared, so that under LoRA the reference takes next to no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.model.generate import evaluating

TOLERANCE = 1e-6


class Reference:
    """The start weights of a model. Make it before the model trains, or gets a checkpoint's weights."""

    def __init__(self, model: Any) -> None:
        self._start = {name: value.detach().clone() for name, value in trained(model)}

    @contextmanager
    def of(self, model: Any) -> Iterator[Any]:
        """The model as it began: its start weights, eval mode, no gradients; afterwards as it was, to the last bit.

        To be used before the policy's forward pass: weights are exchanged in place.
        """
        with torch.no_grad(), evaluating(model):
            self._exchange(model)
            try:
                yield model
            finally:
                self._exchange(model)

    def fingerprint(self) -> dict[str, float]:
        """The sum of the magnitudes of every kept weight: what tells other start weights apart, in any precision."""
        return {name: float(_whole(value.detach().double().abs().sum())) for name, value in self._start.items()}

    def _exchange(self, model: Any) -> None:
        for module in model.modules():
            if hasattr(module, "reshard"):  # FSDP: whole weights of a forward pass would outlive the exchange
                module.reshard()
        for name, value in trained(model):
            kept = self._start[name] = _laid_out(self._start[name], value)
            now = value.detach().clone()
            value.data.copy_(kept)
            kept.copy_(now)


def trained(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters of a model that train, by name."""
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


def differing(found: dict[str, float], wanted: dict[str, float]) -> str:
    """The first weight in which two fingerprints differ, or nothing."""
    for name in sorted({*found, *wanted}):
        if name not in found or name not in wanted:
            return name
        if abs(found[name] - wanted[name]) > TOLERANCE * max(1.0, abs(wanted[name])):
            return name
    return ""


def _laid_out(kept: Any, like: Any) -> Any:
    """A kept weight as the model's own lies: on its device, in the same pieces where it has been sharded since."""
    if hasattr(like, "device_mesh") and not hasattr(kept, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(kept.to(like.device), like.device_mesh, like.placements)
    return kept.to(like.device)


def _whole(value: Any) -> torch.Tensor:
    whole: torch.Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole
