"""Capsules: an encoder's vectors as votes, on which a few capsules agree.

Here: the connector of capsules with dynamic routing (Sabour, Frosst, Hinton 2017).
Elsewhere: the other connectors (connectors.py).

Every vector votes on every capsule's content; votes that agree with what a capsule became count more in the next round.
One matrix makes the votes wherever a vector lies: encoders have added its position already.
"""

from __future__ import annotations

import torch
from torch import nn

from trainer.spec import EncoderSpec


class Capsules(nn.Module):
    """(N, L, width) vectors to (N, latents, out) vectors: as many capsules of the spec's `capsule_width`, projected."""

    def __init__(self, spec: EncoderSpec, width: int, length: int, out: int) -> None:
        super().__init__()
        self.capsules, self.rounds = spec.latents, spec.routing
        self.norm = nn.LayerNorm(width)
        self.vote = nn.Linear(width, spec.latents * spec.capsule_width)
        self.start = nn.Parameter(torch.randn(length, spec.latents) * 0.02)
        self.project = nn.Linear(spec.capsule_width, out)

    def forward(self, vectors_NLD: torch.Tensor, seen_NL: torch.Tensor | None = None) -> torch.Tensor:
        """Capsules of every input; `seen_NL` False hides a vector: it has no vote."""
        votes_NLKC = self.vote(self.norm(vectors_NLD)).unflatten(-1, (self.capsules, -1))
        logits_NLK = self.start.to(votes_NLKC.dtype).expand(len(votes_NLKC), -1, -1)
        for left in reversed(range(self.rounds)):
            shares = logits_NLK.softmax(-1)
            shares = shares if seen_NL is None else shares * seen_NL[..., None].to(shares.dtype)
            capsules_NKC = squash(torch.einsum("nlk,nlkc->nkc", shares, votes_NLKC))
            if left:
                logits_NLK = logits_NLK + torch.einsum("nkc,nlkc->nlk", capsules_NKC, votes_NLKC)
        return self.project(capsules_NKC)


def squash(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors with their direction and a length under 1: long ones near it, short ones near 0."""
    square = vectors.square().sum(-1, keepdim=True)
    return square / (1 + square) * vectors * torch.rsqrt(square + 1e-7)
