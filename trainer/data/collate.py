"""A batch: rows of tokens padded to one length, of one sample each or packed, with stacks of images and sound.

Here: stacking encoded samples.
Elsewhere: encoding them (tokenise.py, media.py), drawing them from a dataset (stream.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from trainer.data.media import Senses
from trainer.data.sounds import HOP
from trainer.data.tokenise import Encoded

IGNORED = -100
"""Label of a token that is not the assistant's: no loss."""


class TrainBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the model takes. B rows of at most T tokens, N images, M windows of sound.

    `ids` (B, T) int64; `attention` (B, T) bool; `labels` (B, T) int64, -100 where the assistant does not speak;
    `images` (N, 3, S, S) uint8; `mels` (M, mels, frames) float32, or (M, samples) of sound where the encoder
    makes the frames; `heard` (M, frames) bool, where sound is.
    Latents of images and windows replace the placeholders in row-major order. `keys`, `kinds` and `sources` name the
    samples; `lengths` are their tokens, known without asking the device.
    Packed rows have `segments` (B, T) int64, 0 for padding and otherwise 1 + the number of the token's sample, and
    `positions` (B, T) int64, which begin at 0 with every sample (and with the padding): samples must not see each
    other. Without them, every row is one sample; or one answer of a sample, where answers are compared: `wanted` (B,)
    bool tells good ones from bad ones, `owners` (B,) int64 the number of their sample. `num_images` and `num_windows`
    count each sample's media.
    """

    ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor
    images: torch.Tensor
    mels: torch.Tensor
    heard: torch.Tensor
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    segments: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    num_images: tuple[int, ...] = ()
    num_windows: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    wanted: torch.Tensor | None = None
    owners: torch.Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are no padding, places of media included."""
        return sum(self.lengths) if self.lengths else int(self.attention.sum())

    @property
    def answer_tokens(self) -> int:
        """Number of tokens that carry loss (the first of a row has nothing before it)."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    @property
    def boundaries(self) -> torch.Tensor:
        """Offsets (int32) where samples and paddings begin in the rows laid end to end, and the end: `cu_seqlens`.

        For attention over runs of varying length (flash attention's varlen, flex attention's documents).
        """
        count = self.ids.numel()
        positions = torch.arange(self.ids.shape[1]).expand_as(self.ids) if self.positions is None else self.positions
        starts = (positions.flatten() == 0).nonzero().flatten()
        return torch.cat([starts, starts.new_tensor([count])]).to(torch.int32)

    def per_sample(self, values_BT: torch.Tensor) -> torch.Tensor:
        """Sums (samples,) of values of tokens, or of their last T - 1, over each sample."""
        if self.segments is None:
            return values_BT.sum(dim=1)
        segments = self.segments[:, -values_BT.shape[1] :]
        sums = torch.zeros(len(self.keys) + 1, dtype=values_BT.dtype, device=values_BT.device)
        return sums.index_add(0, segments.flatten(), values_BT.flatten())[1:]

    def per_token(self, values: torch.Tensor) -> torch.Tensor:
        """Values (samples,) as (B, T - 1), or what broadcasts to it, each at its sample's tokens but the first."""
        if self.segments is None:
            return values[:, None]
        padded = torch.cat([values.new_ones(1), values])
        return padded[self.segments[:, 1:]]

    def to(self, device: torch.device) -> TrainBatch:
        """The batch on a device; from pinned memory without waiting for the copy."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> TrainBatch:
        """The batch in page-locked memory where there is CUDA, else itself."""
        return self._each(torch.Tensor.pin_memory) if torch.cuda.is_available() else self

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> TrainBatch:
        changed: dict[str, Any] = {
            name: change(value) if isinstance(value, torch.Tensor) else value
            for name, value in msgspec.structs.asdict(self).items()
        }
        return TrainBatch(**changed)


Row = tuple[str, Encoded]
"""An encoded sample with its key."""


def collate(rows: Sequence[Row], senses: Senses, pad_id: int) -> TrainBatch:
    """Encoded samples as one batch, a row each, padded on the right; with a row for a sample's second answer."""
    if any(row.wanted is not None for _, row in rows):
        return _stack_answers(rows, senses, pad_id).pinned()
    return _stack([[row] for row in rows], senses, pad_id).pinned()


def collate_packs(packs: Sequence[Sequence[Row]], senses: Senses, pad_id: int) -> TrainBatch:
    """Packs of encoded samples as one batch, a row each, with the marks that keep the samples apart.

    The first token of a sample carries no loss: the last one of its neighbour would have to foretell it.
    """
    batch = _stack(packs, senses, pad_id)
    segments, positions = np.zeros(batch.ids.shape, dtype=np.int64), np.zeros(batch.ids.shape, dtype=np.int64)
    labels = batch.labels.numpy().copy()
    number = 0
    for at, pack in enumerate(packs):
        start = 0
        for _, row in pack:
            number += 1
            stop = start + len(row.ids)
            segments[at, start:stop], positions[at, start:stop] = number, np.arange(stop - start)
            labels[at, start] = IGNORED
            start = stop
        positions[at, start:] = np.arange(batch.ids.shape[1] - start)
    return msgspec.structs.replace(
        batch,
        labels=torch.from_numpy(labels),
        segments=torch.from_numpy(segments),
        positions=torch.from_numpy(positions),
    ).pinned()


def _stack_answers(rows: Sequence[Row], senses: Senses, pad_id: int) -> TrainBatch:
    """Answers to be compared, a row each: a sample's good one, then its bad one; names are the samples'."""
    named = [(at, key, row) for at, (key, first) in enumerate(rows) for row in (first, first.rival) if row is not None]
    batch = _stack([[(key, row)] for _, key, row in named], senses, pad_id)
    return msgspec.structs.replace(
        batch,
        keys=tuple(key for key, _ in rows),
        kinds=tuple(row.kind for _, row in rows),
        sources=tuple(row.source for _, row in rows),
        wanted=torch.tensor([bool(row.wanted) for _, _, row in named]),
        owners=torch.tensor([at for at, _, _ in named]),
    )


def _stack(packs: Sequence[Sequence[Row]], senses: Senses, pad_id: int) -> TrainBatch:
    longest = max(sum(len(row.ids) for _, row in pack) for pack in packs)
    ids = np.full((len(packs), longest), pad_id, dtype=np.int64)
    labels = np.full((len(packs), longest), IGNORED, dtype=np.int64)
    attention = np.zeros((len(packs), longest), dtype=bool)
    for at, pack in enumerate(packs):
        start = 0
        for _, row in pack:
            stop = start + len(row.ids)
            ids[at, start:stop] = row.ids
            labels[at, start:stop] = np.where(row.said, row.ids, IGNORED)
            start = stop
        attention[at, :start] = True
    encoded = [row for pack in packs for _, row in pack]
    return TrainBatch(
        ids=torch.from_numpy(ids),
        attention=torch.from_numpy(attention),
        labels=torch.from_numpy(labels),
        images=_images(encoded, senses),
        mels=_mels(encoded, senses),
        heard=_heard(encoded, senses),
        keys=tuple(key for pack in packs for key, _ in pack),
        kinds=tuple(row.kind for row in encoded),
        num_images=tuple(len(row.images) for row in encoded),
        num_windows=tuple(len(row.windows) for row in encoded),
        sources=tuple(row.source for row in encoded),
        lengths=tuple(len(row.ids) for row in encoded),
    )


def _images(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    stack = [image for row in rows for image in row.images]
    size = senses.image_size
    return torch.from_numpy(np.stack(stack)) if stack else torch.zeros((0, 3, size, size), dtype=torch.uint8)


def _mels(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    stack = [window for row in rows for window in row.windows]
    shape = (senses.window_frames * HOP,) if senses.waves else (senses.mels, senses.window_frames)
    return torch.from_numpy(np.stack(stack)) if stack else torch.zeros((0, *shape))


def _heard(rows: Sequence[Encoded], senses: Senses) -> torch.Tensor:
    counts = torch.tensor([count for row in rows for count in row.sounding], dtype=torch.int64)
    return torch.arange(senses.window_frames)[None, :] < counts[:, None]
