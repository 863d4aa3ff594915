"""Held-out loss by modality, category and source; rows with one medium exchanged among them, or blank.

Here: the losses of encoded rows, taking a medium from them.
Elsewhere: which rows (heldout.py), the loss itself (losses), answers (answers.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import torch

from trainer.data.collate import TrainBatch, collate
from trainer.data.tokenise import Encoded
from trainer.losses.parts import LossParts, add_parts
from trainer.losses.table import Loss
from trainer.model.generate import evaluating
from trainer.model.precision import computing
from trainer.spec import Modality

Rows = list[tuple[str, Encoded]]
EVAL_BATCH = 16


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss of an answer (itself a mean over its tokens), over all samples and by part; number of samples.

    Each answer counts once: a page of code would drown the answers of two tokens beside it. `told` is what the loss
    tells besides, such as the margin between answers that it compares. `answers` says how many answers were generated
    and how many of them are right (answers.py).
    """

    loss: float
    by_modality: dict[str, float]
    samples: dict[str, int]
    by_category: dict[str, float] = {}
    by_source: dict[str, float] = {}
    told: dict[str, float] = {}
    answers: dict[str, Any] = {}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out losses together, and of each sample by its key."""

    held_out: HeldOut
    by_key: dict[str, float]


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What measures rows: a model, its loss, the id that pads, and the precision that it computes in."""

    model: Any
    loss: Loss
    pad_id: int
    dtype: str = "float32"


def measure_rows(ready: Ready, rows: Rows) -> Measured | None:
    """The mean loss of an answer; none where there is no sample. Leaves the model's modes and all randomness alone."""
    with undisturbed(ready):
        found = add_parts(_parts(ready, batch) for batch in batches_of(ready, rows))
    if not found.answers:
        return None
    by_key = {key: found.means[key] / found.answers[key] for key, _ in rows if found.answers.get(key)}
    return Measured(held_out=_together(found, by_key, rows), by_key=by_key)


def not_finite(held_out: HeldOut) -> list[str]:
    """The modalities whose loss is not finite; empty where all are."""
    kinds = [kind for kind, loss in held_out.by_modality.items() if not math.isfinite(loss)]
    return kinds or ([] if math.isfinite(held_out.loss) else ["of all samples"])


def _together(found: LossParts, by_key: dict[str, float], rows: Rows) -> HeldOut:
    """Means over the samples, by what they are; a loss that does not tell samples apart has its own names."""
    own = {name: found.means[name] / found.answers[name] for name in sorted(set(found.means) - set(by_key))}
    kinds = _means((row.kind, by_key.get(key)) for key, row in rows)
    counts = {kind: sum(row.kind == kind and key in by_key for key, row in rows) for kind in kinds}
    return HeldOut(
        loss=sum(found.means.values()) / sum(found.answers.values()),
        by_modality=own | kinds,
        samples={name: found.answers[name] for name in own} | counts,
        by_category=_means((row.category, by_key.get(key)) for key, row in rows),
        by_source=_means((row.source, by_key.get(key)) for key, row in rows),
        told={name: total / count for name, (total, count) in sorted(found.extra.items())},
    )


def _means(named: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for name, value in named:
        if name and value is not None:
            groups.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sorted(groups.items())}


def _parts(ready: Ready, batch: TrainBatch) -> LossParts:
    """A batch's parts by sample: its samples are told to be of as many kinds."""
    with computing(batch.ids.device, ready.dtype):
        return ready.loss(ready.model, msgspec.structs.replace(batch, kinds=batch.keys))[1]


@contextmanager
def undisturbed(ready: Ready) -> Iterator[None]:
    """Measuring without traces: eval mode, no gradients; modes and every source of randomness are put back."""
    device = next(ready.model.parameters()).device
    states = random.getstate(), np.random.get_state()
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), evaluating(ready.model):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def exchange(rows: Rows, medium: Modality) -> Rows:
    """Rows whose images (or windows of sound) went round among rows of one kind that have equally many.

    What is then lost is what the model had from them. A row without such a neighbour is left out.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for at, (_, row) in enumerate(rows):
        count = len(row.images if medium == "image" else row.windows)
        if count:
            groups.setdefault((row.kind, count), []).append(at)
    alone = {group[0] for group in groups.values() if len(group) == 1}
    result = list(rows)
    for group in groups.values():
        for at, giver in zip(group, [*group[1:], group[0]], strict=True):
            key, row = rows[at]
            given = rows[giver][1]
            images = given.images if medium == "image" else row.images
            heard = (given.windows, given.sounding) if medium == "audio" else (row.windows, row.sounding)
            result[at] = (key, _with_media(row, images, *heard))
    return [row for at, row in enumerate(result) if at not in alone]


def blank(rows: Rows, medium: Modality) -> Rows:
    """Rows whose images are an even grey, or whose windows of sound are as silent as their quietest place."""
    result = []
    for key, row in rows:
        images = tuple(np.full_like(image, 128) for image in row.images) if medium == "image" else row.images
        windows = tuple(_silence(each) for each in row.windows) if medium == "audio" else row.windows
        result.append((key, _with_media(row, images, windows, row.sounding)))
    return result


def _with_media(row: Encoded, images: tuple[Any, ...], windows: tuple[Any, ...], sounding: tuple[int, ...]) -> Encoded:
    """A row with other media, and so its other answer to the same prompt."""
    rival = _with_media(row.rival, images, windows, sounding) if row.rival else None
    return msgspec.structs.replace(row, images=images, windows=windows, sounding=sounding, rival=rival)


def _silence(window: Any) -> Any:
    """Log-mel frames as low as their lowest; or, of the sound itself, nothing."""
    return np.full_like(window, window.min() if window.ndim == 2 else 0.0)


def batches_of(ready: Ready, rows: Rows) -> Iterator[TrainBatch]:
    """Rows as batches on the model's device."""
    device = next(ready.model.parameters()).device
    for at in range(0, len(rows), EVAL_BATCH):
        yield collate(rows[at : at + EVAL_BATCH], ready.model.senses, ready.pad_id).to(device)
