"""Batches of given lengths, for tests that count."""

from __future__ import annotations

import torch

from trainer.data.collate import TrainBatch


def batch_of(lengths: list[int], images: int = 0, windows: int = 0) -> TrainBatch:
    shape = (len(lengths), max(lengths))
    return TrainBatch(
        ids=torch.zeros(shape, dtype=torch.int64),
        attention=torch.arange(shape[1])[None, :] < torch.tensor(lengths)[:, None],
        labels=torch.zeros(shape, dtype=torch.int64),
        images=torch.zeros((images, 3, 4, 4), dtype=torch.uint8),
        mels=torch.zeros((windows, 80, 10)),
        heard=torch.ones((windows, 10), dtype=torch.bool),
        keys=tuple(map(str, range(len(lengths)))),
        kinds=("text",) * len(lengths),
    )
