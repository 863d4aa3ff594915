"""The fusion model's heads: captions, transcripts, and vectors to be compared.

Here: the modules.
Elsewhere: the transformer before them (fusion.py), their losses (losses/fusion.py, losses/contrastive.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TokenHead(nn.Module):
    """Last vectors (…, width) to logits (…, vocabulary): of a caption's next token, or of a transcript's."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, vocabulary, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Logits; see the class."""
        logits: torch.Tensor = self.project(self.norm(vectors))
        return logits


class ContrastiveHead(nn.Module):
    """Pooled vectors of media and of text (P, width) into one space, of length 1.

    With `learnt`, training may change the temperature: by a factor, which begins as 1.
    """

    def __init__(self, width: int, learnt: bool) -> None:
        super().__init__()
        self.media = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))
        self.text = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))
        self.log_sharpness = nn.Parameter(torch.zeros(1)) if learnt else None

    def sharpness(self) -> torch.Tensor:
        """The factor () of the inverse temperature."""
        return torch.ones(()) if self.log_sharpness is None else self.log_sharpness.exp().squeeze()

    def forward(self, media_PD: torch.Tensor, text_PD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both projected; see the class."""
        return F.normalize(self.media(media_PD).float(), dim=-1), F.normalize(self.text(text_PD).float(), dim=-1)
