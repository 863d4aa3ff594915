"""The fusion model's transformer: text attends to itself, to what is before it, and to media.

Here: its layers and embeddings.
Elsewhere: media's vectors and who may see whom (fusion.py), heads (heads.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trainer.spec import FusionSpec


class Sizes(NamedTuple):
    """Sizes by the names that models of transformers have for them."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int


class CrossingText(nn.Module):
    """Embeddings of tokens and their positions, and layers in which text (queries) attends to media (keys, values).

    What is always there to be attended to is `nothing`, a vector of its own, for text without media.
    """

    def __init__(self, spec: FusionSpec, vocabulary: int) -> None:
        super().__init__()
        self.config = Sizes(vocabulary, spec.width, spec.layers, spec.heads, spec.positions)
        self.words = nn.Embedding(vocabulary, spec.width)
        self.places = nn.Embedding(spec.positions, spec.width)
        self.nothing = nn.Parameter(torch.zeros(spec.width))
        self.layers = nn.ModuleList(CrossingLayer(spec.width, spec.heads) for _ in range(spec.layers))
        self.apply(lambda module: _begin(module, spec.spread))

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of tokens."""
        return self.words

    def get_output_embeddings(self) -> None:
        """None: its heads are parts of their own (heads.py)."""

    def forward(
        self, text_BTD: torch.Tensor, sees_BTT: torch.Tensor, media_BSD: torch.Tensor, reaches_BTS: torch.Tensor
    ) -> torch.Tensor:
        """Last vectors (B, T, width). `sees` and `reaches` are True where a token attends to text and media.

        `reaches` may be (B, 1, S), for all tokens alike.
        """
        nothing = self.nothing.to(media_BSD.dtype).expand(len(media_BSD), 1, -1)
        media, reaches = torch.cat([nothing, media_BSD], dim=1), F.pad(reaches_BTS, (1, 0), value=True)
        for layer in self.layers:
            text_BTD = layer(text_BTD, sees_BTT, media, reaches)
        return text_BTD


class CrossingLayer(nn.Module):
    """Text attends to itself, then to media, then a feed-forward of four times the width; norms come first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_text, self.text = nn.LayerNorm(width), Attention(width, heads)
        self.norm_query, self.norm_media = nn.LayerNorm(width), nn.LayerNorm(width)
        self.media = Attention(width, heads)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, text_BTD: torch.Tensor, sees_BTT: torch.Tensor, media_BSD: torch.Tensor, reaches_BTS: torch.Tensor
    ) -> torch.Tensor:
        """One layer; see CrossingText."""
        own = self.norm_text(text_BTD)
        text = text_BTD + self.text(own, own, sees_BTT)
        text = text + self.media(self.norm_query(text), self.norm_media(media_BSD), reaches_BTS)
        return text + self.feed(text)


class Attention(nn.Module):
    """Many heads of `asking` (B, T, width) attend to `given` (B, S, width) where `mask` (B, T or 1, S) is True."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, asking: torch.Tensor, given: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What is attended to (B, T, width)."""
        query = self._split(self.query(asking))
        key, value = (self._split(part) for part in self.key_value(given).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _begin(module: nn.Module, spread: float) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=spread)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
