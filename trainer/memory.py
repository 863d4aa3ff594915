"""Batches within the memory: smaller parts beforehand, halves where the memory did not do.

Here: what counts as out of memory, cutting a step's batches, remembering what was too large.
Elsewhere: cutting one batch (data/split.py), the gradients (step.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch

from trainer.data.collate import TrainBatch
from trainer.data.split import cut_batch, split_batch
from trainer.failure import TrainingFailed

SIGNS = ("not enough memory", "out of memory", "can't allocate memory", "ALLOC_FAILED")


class Room:
    """What of a batch one forward and backward pass may take: so many rows, and less than what was once too much.

    `unit` rows belong together; 0: the loss compares all samples of a batch, which cannot be cut. `splits` counts cuts.
    """

    def __init__(self, micro_batch: int | Literal["auto"], unit: int, warn: Callable[[str], None]) -> None:
        self._rows = 0 if micro_batch == "auto" else micro_batch
        self.unit, self._warn = unit, warn
        self._too_many_tokens = 0
        self.splits = 0

    @property
    def is_open(self) -> bool:
        """Whether nothing says yet how many rows fit."""
        return not self._rows

    def limit(self, rows: int) -> None:
        """Take at most so many rows at once from now on."""
        self._rows = rows

    def cut(self, batches: Iterable[TrainBatch]) -> list[TrainBatch]:
        """A step's batches in parts that may be expected to fit."""
        parts: list[TrainBatch] = []
        for batch in batches:
            rows = max(self.unit, self._rows // max(1, self.unit) * self.unit)
            for part in cut_batch(batch, rows) if self._rows and self._can_cut(batch) else (batch,):
                parts += self._halved(part)
        return parts

    def _can_cut(self, batch: TrainBatch) -> bool:
        """Not where a loss compares samples, or answers of one: they must be together."""
        return bool(self.unit) and batch.owners is None

    def _halved(self, part: TrainBatch) -> list[TrainBatch]:
        if not self._too_many_tokens or part.ids.numel() < self._too_many_tokens or not self._can_cut(part):
            return [part]
        halves = split_batch(part, self.unit)
        return [piece for half in halves for piece in self._halved(half)] if halves else [part]

    def halve(self, parts: list[TrainBatch], at: int) -> list[TrainBatch]:
        """The parts with one that was too large as two. Raises TrainingFailed where it cannot be cut."""
        large = parts[at]
        halves = split_batch(large, self.unit) if self._can_cut(large) else None
        size = (
            f"{large.ids.shape[0]} x {large.ids.shape[1]} tokens, {len(large.images)} images, {len(large.mels)} windows"
        )
        if halves is None:
            alone = len(large.keys) == 1
            what = (
                f"sample {large.keys[0]} alone" if alone else f"a batch that cannot be cut, samples {large.keys[:4]},"
            )
            raise TrainingFailed(
                f"out of memory: {what} ({size}) does not fit; lower data.max_tokens"
                f"{'' if alone else ' or batch_size'}, or use a smaller model"
            )
        self.splits += 1
        known = self._too_many_tokens
        self._too_many_tokens = min(known, large.ids.numel()) if known else large.ids.numel()
        self._warn(
            f"out of memory with {size}: this batch and others of its size are done in two halves, with the same "
            f"gradients; set micro_batch to {max(1, large.ids.shape[0] // 2)} to begin so"
        )
        return [*parts[:at], *halves, *parts[at + 1 :]]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not do, on a GPU or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def free_memory() -> None:
    """Give back what the allocator keeps, so that a smaller batch finds it in one piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
