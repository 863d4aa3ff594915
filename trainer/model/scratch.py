"""Small encoders of images from scratch: a convolutional network and a vision transformer.

Here: the two networks.
Elsewhere: pretrained ones (eyes.py).
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from shardkit import SpecError

GROUPS = 8


class SmallCnn(nn.Module):
    """Images (N, 3, size, size) to vectors (N, length, width): `blocks` times a convolution that halves the side.

    Channels double from block to block up to `width`; every place of the last map is a vector, with its position added.
    """

    FIELDS: ClassVar = ("image_size", "width", "blocks")

    def __init__(self, image_size: int = 64, width: int = 128, blocks: int = 3) -> None:
        super().__init__()
        if blocks < 1 or width % (GROUPS << (blocks - 1)) or image_size % (1 << blocks):
            raise SpecError(
                f"model.vision.config: a cnn of {blocks} blocks wants a width that {GROUPS << max(0, blocks - 1)} "
                f"divides and an image_size that {1 << max(0, blocks)} divides; found {width} and {image_size}"
            )
        self.width, self.size, self.length = width, image_size, (image_size >> blocks) ** 2
        widths = [3, *(width >> (blocks - 1 - at) for at in range(blocks))]
        self.blocks = nn.Sequential(*(_block(taken, given) for taken, given in pairwise(widths)))
        self.positions = nn.Parameter(torch.randn(self.length, width) * 0.02)

    def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.blocks(pixels_NCHW).flatten(2).transpose(1, 2) + self.positions


class SmallVit(nn.Module):
    """Images (N, 3, size, size) to vectors (N, length, width): a pre-norm transformer over patches.

    Dosovitskiy 2020, without its class token.
    """

    FIELDS: ClassVar = ("image_size", "patch_size", "width", "layers", "heads")

    def __init__(
        self, image_size: int = 64, patch_size: int = 8, width: int = 128, layers: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        if image_size % patch_size or width % heads or layers < 1:
            raise SpecError(
                f"model.vision.config: a vit wants an image_size that its patch_size divides and a width that its "
                f"heads divide; found {image_size} and {patch_size}, {width} and {heads}"
            )
        self.width, self.size, self.length = width, image_size, (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.positions = nn.Parameter(torch.randn(self.length, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        """See the class."""
        vectors = self.patches(pixels_NCHW).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            vectors = layer(vectors)
        return self.norm(vectors)


def _block(taken: int, given: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(taken, given, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, given), nn.GELU())
