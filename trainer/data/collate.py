"""A batch: rows of tokens padded to one length, stacks of images and sound, and the reading state behind it.

Here: stacking encoded samples.
Elsewhere: encoding them (tokenise.py, media.py), drawing them from a dataset (stream.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from trainer.data.media import Senses
from trainer.data.tokenise import Encoded

IGNORED = -100
"""Label of a token that is not the assistant's: no loss."""


class TrainBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the model takes. B rows of at most T tokens, N images, M windows of sound.

    `ids` (B, T) int64; `attention` (B, T) bool; `labels` (B, T) int64, -100 where the assistant does not speak;
    `images` (N, 3, S, S) uint8; `mels` (M, mels, frames) float32; `heard` (M, frames) bool, where sound is.
    Latents of images and windows replace the placeholders in row-major order. `keys` and `kinds` name the rows.
    """

    ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor
    images: torch.Tensor
    mels: torch.Tensor
    heard: torch.Tensor
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    image_rows: tuple[int, ...]
    audio_rows: tuple[int, ...]

    @property
    def answer_tokens(self) -> int:
        """Number of tokens that carry loss (the first of a row has nothing before it)."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def to(self, device: torch.device) -> TrainBatch:
        """The batch on a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in msgspec.structs.asdict(self).items()
        }
        return TrainBatch(**moved)


def collate(rows: Sequence[tuple[str, Encoded]], senses: Senses, pad_id: int) -> TrainBatch:
    """Encoded samples with their keys as one batch, padded on the right."""
    longest = max(len(row.ids) for _, row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    labels = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    attention = np.zeros((len(rows), longest), dtype=bool)
    for at, (_, row) in enumerate(rows):
        length = len(row.ids)
        ids[at, :length] = row.ids
        attention[at, :length] = True
        labels[at, :length] = np.where(row.said, row.ids, IGNORED)
    encoded = [row for _, row in rows]
    return TrainBatch(
        ids=torch.from_numpy(ids),
        attention=torch.from_numpy(attention),
        labels=torch.from_numpy(labels),
        images=_images(encoded, senses),
        mels=_mels(encoded, senses),
        heard=_heard(encoded, senses),
        keys=tuple(key for key, _ in rows),
        kinds=tuple(row.kind for row in encoded),
        image_rows=tuple(at for at, row in enumerate(encoded) for _ in row.images),
        audio_rows=tuple(at for at, row in enumerate(encoded) for _ in row.windows),
    )


def _images(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    stack = [image for row in rows for image in row.images]
    size = senses.image_size
    return torch.from_numpy(np.stack(stack)) if stack else torch.zeros((0, 3, size, size), dtype=torch.uint8)


def _mels(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    stack = [window for row in rows for window in row.windows]
    return torch.from_numpy(np.stack(stack)) if stack else torch.zeros((0, senses.mels, senses.window_frames))


def _heard(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    counts = torch.tensor([count for row in rows for count in row.sounding], dtype=torch.int64)
    return torch.arange(senses.window_frames)[None, :] < counts[:, None]
