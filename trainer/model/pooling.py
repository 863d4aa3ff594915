"""Media and answers of a batch's samples as one vector each.

Here: which sample a medium belongs to, means over samples, the pairs that are to be aligned.
Elsewhere: the models that make the vectors (omni.py, fusion.py), comparing them (losses/contrastive.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from trainer.data.collate import IGNORED, TrainBatch

STEP = 1_000_003
"""Odd, so that no token is lost in an answer's fingerprint, which is taken modulo 2 to the 64."""


class Pairs(NamedTuple):
    """The P samples with media and an answer: pooled `media` and `text` (P, D), fingerprints of the `answers` (P,).

    `samples` (P,) are their numbers in the batch. `sharpness` () multiplies the inverse temperature; `touched` () is
    zero and holds on to all that trains and is not in use.
    """

    media: torch.Tensor
    text: torch.Tensor
    answers: torch.Tensor
    samples: torch.Tensor
    sharpness: torch.Tensor
    touched: torch.Tensor


def sample_numbers(batch: TrainBatch) -> torch.Tensor:
    """The number (B, T) of every token's sample; -1 for padding between and behind packed ones."""
    if batch.segments is not None:
        return batch.segments - 1
    return torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.ids)


def media_samples(batch: TrainBatch, where_BT: torch.Tensor, count: int) -> torch.Tensor:
    """The sample (count,) of every medium whose places in the batch are `where_BT`, as many for each."""
    found = sample_numbers(batch)[where_BT]
    if not count or len(found) % count:
        raise ValueError(f"{len(found)} places for {count} media; the batch was collated for another model")
    return found[:: len(found) // count]


def mean_of_samples(vectors_ND: torch.Tensor, samples_N: torch.Tensor, count: int) -> torch.Tensor:
    """Means (count, D) in float32 of the vectors of every sample; zero where it has none, and of samples below 0."""
    shown = vectors_ND.float() * (samples_N >= 0)[:, None]
    rows = samples_N.clamp(min=0)
    sums = torch.zeros((count, shown.shape[1]), device=shown.device).index_add(0, rows, shown)
    numbers = torch.zeros(count, device=shown.device).index_add(0, rows, (samples_N >= 0).float())
    return sums / numbers.clamp(min=1.0)[:, None]


def answer_fingerprints(batch: TrainBatch) -> torch.Tensor:
    """An int64 (samples,) for the tokens of every sample's answers in their order: the same where these are."""
    said = batch.labels != IGNORED
    powers = (torch.full_like(batch.ids[0], STEP)).cumprod(0)[answer_positions(batch, said)]
    return batch.per_sample(torch.where(said, (batch.ids + 1) * powers, 0))


def answer_positions(batch: TrainBatch, said_BT: torch.Tensor) -> torch.Tensor:
    """The place (B, T) of every answer's token among those of its sample; at other tokens, of the next one."""
    before = said_BT.long().cumsum(dim=1) - said_BT.long()
    if batch.positions is None:
        return before
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    return before - before.gather(1, columns - batch.positions)


def paired(batch: TrainBatch, has_media: torch.Tensor) -> torch.Tensor:
    """The numbers (P,) of the samples that have media (samples,) and an answer."""
    return (has_media & (batch.per_sample((batch.labels != IGNORED).long()) > 0)).nonzero().flatten()
