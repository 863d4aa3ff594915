"""Choosing the next token: the likeliest, or one drawn at a temperature from the likeliest of so much probability.

Here: the choice.
Elsewhere: decoding around it (model.generate).
"""

from __future__ import annotations

import math

import torch

from shardkit import SpecError
from trainer.model.generate import Choose
from trainer.spec.base import Strict


class Decoding(Strict, frozen=True, kw_only=True):
    """How an answer is found. `temperature` 0 takes the likeliest token; above it `seed` repeats a draw.

    `top_p`: only the likeliest tokens whose probabilities first reach this sum (Holtzman 2020).
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SpecError(f"max_tokens is {self.max_tokens}; at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SpecError(f"temperature is {self.temperature}; at least 0")
        if not 0 <= self.seed < 1 << 63:
            raise SpecError(f"seed is {self.seed}; at least 0 and under {1 << 63}")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p is {self.top_p}; above 0 and at most 1")


def chooser(how: Decoding) -> Choose:
    """Logits (B, vocabulary) to ids (B,), as `how` says. Draws are made on the CPU, so that devices agree on them."""
    if how.temperature == 0:
        return lambda logits: _finite(logits).argmax(dim=-1)
    generator = torch.Generator().manual_seed(how.seed)

    def draw(logits: torch.Tensor) -> torch.Tensor:
        _finite(logits)
        chances = torch.softmax(logits.double().cpu() / how.temperature, dim=-1)
        drawn = torch.multinomial(nucleus(chances, how.top_p), 1, generator=generator)
        return drawn[:, 0].to(logits.device)

    return draw


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if torch.isnan(logits).any():
        raise SpecError("the model's answer is not a number: its training diverged; take an earlier checkpoint")
    return logits


def nucleus(chances_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """The chances with all but the likeliest of together `top_p` at 0; the likeliest one always stays."""
    if top_p >= 1:
        return chances_BV
    ordered, order = chances_BV.sort(dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p
    kept[:, 0] = True
    return torch.zeros_like(chances_BV).scatter(-1, order, ordered * kept)
