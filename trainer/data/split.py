"""Batches cut into smaller ones: for a device that has no memory for all of their samples at once.

Here: cutting between samples, media with theirs.
Elsewhere: making batches (collate.py), when they are cut (trainer.memory).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import torch

from trainer.data.collate import TrainBatch


def split_batch(batch: TrainBatch, unit: int = 1) -> tuple[TrainBatch, TrainBatch] | None:
    """A batch as two of about half its rows each, or half its row's samples; none where there is one sample.

    `unit` rows belong together, as a chosen and a rejected answer do.
    """
    rows = len(batch.ids)
    if rows > unit:
        middle = max(1, rows // (2 * unit)) * unit
        return take_rows(batch, 0, middle), take_rows(batch, middle, rows)
    if rows > 1 or batch.segments is None or len(batch.keys) < 2:
        return None
    middle = len(batch.keys) // 2
    column = int((batch.segments[0] == middle + 1).nonzero()[0])
    parts = [_columns(batch, slice(0, column)), _columns(batch, slice(column, None))]
    return (
        _samples(_renumbered(parts[0]), batch, 0, middle),
        _samples(_renumbered(parts[1]), batch, middle, len(batch.keys)),
    )


def cut_batch(batch: TrainBatch, most_rows: int) -> Iterator[TrainBatch]:
    """A batch in parts of at most so many rows."""
    if len(batch.ids) <= most_rows:
        yield batch
        return
    for start in range(0, len(batch.ids), most_rows):
        yield take_rows(batch, start, min(start + most_rows, len(batch.ids)))


def take_rows(batch: TrainBatch, start: int, stop: int) -> TrainBatch:
    """Some rows with their samples and media, without columns that are padding in all of them."""
    taken = batch.attention[start:stop]
    longest = int(taken.sum(dim=1).max()) if bool(taken.any()) else taken.shape[1]
    changed = {
        name: value[start:stop, :longest] for name, value in _tokens(batch).items()
    }  # rows are padded on the right only
    part = msgspec.structs.replace(batch, **changed)
    if batch.segments is None:
        per_row = len(batch.keys) // len(batch.ids)
        return _samples(part, batch, start * per_row, stop * per_row)
    first = int(batch.segments[:start].max()) if start else 0
    return _samples(_renumbered(part), batch, first, int(batch.segments[:stop].max()))


def _columns(batch: TrainBatch, columns: slice) -> TrainBatch:
    return msgspec.structs.replace(batch, **{name: value[:, columns] for name, value in _tokens(batch).items()})


def _tokens(batch: TrainBatch) -> dict[str, torch.Tensor]:
    """The batch's tensors (B, T)."""
    fields = msgspec.structs.asdict(batch)
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, torch.Tensor) and value.shape[:2] == batch.ids.shape and name not in MEDIA
    }


MEDIA = {"images": "num_images", "mels": "num_windows", "heard": "num_windows"}
"""Stacks of media, and what counts them for each sample."""


def _samples(part: TrainBatch, batch: TrainBatch, start: int, stop: int) -> TrainBatch:
    """A part with the names and media of samples [start, stop) of the whole."""
    fields = msgspec.structs.asdict(batch)
    changed: dict[str, Any] = {
        name: value[start:stop]
        for name, value in fields.items()
        if isinstance(value, tuple) and len(value) == len(batch.keys)
    }
    for name, counter in MEDIA.items():
        counts = fields[counter]
        changed[name] = fields[name][sum(counts[:start]) : sum(counts[:stop])]
    return msgspec.structs.replace(part, **changed)


def _renumbered(part: TrainBatch) -> TrainBatch:
    """A part of packed rows whose samples count from 1 again."""
    segments = part.segments
    assert segments is not None, "only packed batches number their samples"
    inside = segments > 0
    first = segments[inside].min() if bool(inside.any()) else segments.new_ones(())
    return msgspec.structs.replace(part, segments=torch.where(inside, segments - first + 1, segments))
