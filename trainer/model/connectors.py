"""Connectors: from an encoder's vectors to a few latents of the language model's width.

Here: which connector a spec names; the Perceiver resampler (Jaegle 2021; as in Flamingo, Alayrac 2022), the linear one.
Elsewhere: capsules (capsules.py), encoders (encoders.py), where the latents go (omni.py).

Resampled at the encoder's width and then projected: at the language model's width the same depth costs three times
the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from trainer.model.capsules import Capsules
from trainer.spec import EncoderSpec


def make_connector(spec: EncoderSpec, width: int, length: int, out: int) -> nn.Module:
    """The connector that a spec names: (N, L, width) vectors and which of them are seen to (N, latents, out) vectors.

    Raises ValueError where its sizes do not fit the encoder's.
    """
    return CONNECTORS[spec.connector](spec, width, length, out)


class Connector(nn.Module):
    """(N, L, width) vectors to (N, latents, out) vectors: `depth` Perceiver layers, a norm, a linear projection.

    `length` is L. With the spec's `local` > 0 each latent starts out attending to its own stretch of the input:
    heads get a penalty on the squared distance, from strong to none, which they can unlearn.
    """

    def __init__(self, spec: EncoderSpec, width: int, length: int, out: int) -> None:
        super().__init__()
        if width % spec.heads:
            raise ValueError(
                f"heads: the encoder's width {width} is not a multiple of the connector's {spec.heads} heads"
            )
        self.latents = nn.Parameter(torch.randn(spec.latents, width) * 0.02)
        self.layers = nn.ModuleList(PerceiverLayer(spec, width, length) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, out)

    def forward(self, vectors_NLD: torch.Tensor, seen_NL: torch.Tensor | None = None) -> torch.Tensor:
        """Latents of every input; `seen_NL` False hides a vector (padding behind a recording)."""
        latents = self.latents.to(vectors_NLD.dtype).expand(len(vectors_NLD), -1, -1)
        for layer in self.layers:
            latents = layer(latents, vectors_NLD, seen_NL)
        return self.project(self.norm(latents))


class PerceiverLayer(nn.Module):
    """Latents attend to the input and to themselves, then a feed-forward of four times the width."""

    distance: torch.Tensor

    def __init__(self, spec: EncoderSpec, width: int, length: int) -> None:
        super().__init__()
        self.heads = spec.heads
        self.norm_input = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        device = self.query.weight.device  # transformers may have changed where linspace puts its values
        self.locality = nn.Parameter(spec.local * torch.linspace(1.0, 0.0, spec.heads, device=device))
        centres = (torch.arange(spec.latents) + 0.5) / spec.latents
        places = (torch.arange(length) + 0.5) / length
        distance = (centres[:, None] - places[None, :]) * spec.latents
        self.register_buffer("distance", distance.square().clamp(max=64.0), persistent=False)

    def forward(
        self, latents_NKD: torch.Tensor, vectors_NLD: torch.Tensor, seen_NL: torch.Tensor | None
    ) -> torch.Tensor:
        """One layer; shapes as in Connector."""
        own = self.norm_latents(latents_NKD)
        query = self._split(self.query(own))
        both = self.key_value(torch.cat([self.norm_input(vectors_NLD), own], dim=1))
        key, value = (self._split(part) for part in both.chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias(own, seen_NL))
        latents = latents_NKD + self.out(mixed.transpose(1, 2).flatten(2))
        return latents + self.feed(latents)

    def _split(self, vectors_NLD: torch.Tensor) -> torch.Tensor:
        return vectors_NLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _bias(self, own_NKD: torch.Tensor, seen_NL: torch.Tensor | None) -> torch.Tensor:
        """Additive (N or 1, heads, latents, L + latents): distance to the input, nothing among latents."""
        near = -self.locality[:, None, None] * self.distance.to(self.locality.dtype)
        bias = F.pad(near, (0, own_NKD.shape[1]))[None].to(own_NKD.dtype)
        if seen_NL is None:
            return bias
        hidden = F.pad(~seen_NL, (0, own_NKD.shape[1]))[:, None, None, :]
        return bias.expand(len(seen_NL), -1, -1, -1).masked_fill(hidden, float("-inf"))


class LinearConnector(nn.Module):
    """(N, L, width) vectors to (N, latents, out) vectors: the means of as many stretches of the input, projected.

    A stretch of which nothing is seen is zero before the projection.
    """

    stretches: torch.Tensor

    def __init__(self, spec: EncoderSpec, width: int, length: int, out: int) -> None:
        super().__init__()
        if spec.latents > length:
            raise ValueError(
                f"latents: found {spec.latents}; a linear connector makes at most one of each of {length} vectors"
            )
        edges = [at * length // spec.latents for at in range(spec.latents + 1)]
        stretches = torch.zeros(spec.latents, length)
        for at, (begin, end) in enumerate(pairwise(edges)):
            stretches[at, begin:end] = 1.0
        self.register_buffer("stretches", stretches, persistent=False)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, out)

    def forward(self, vectors_NLD: torch.Tensor, seen_NL: torch.Tensor | None = None) -> torch.Tensor:
        """See Connector."""
        weights = self.stretches.to(vectors_NLD.dtype)
        weights = weights[None] if seen_NL is None else weights[None] * seen_NL[:, None].to(weights.dtype)
        means = weights @ self.norm(vectors_NLD) / weights.sum(-1, keepdim=True).clamp(min=1.0)
        return self.project(means)


CONNECTORS: dict[str, Callable[[EncoderSpec, int, int, int], nn.Module]] = {
    "perceiver": Connector, "capsules": Capsules, "linear": LinearConnector,
}  # fmt: skip
