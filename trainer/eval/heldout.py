"""Held-out loss, and how much worse it is with one medium exchanged among the samples.

Here: choosing held-out samples, the losses.
Elsewhere: which samples are held out (data/reading.py, until datasets carry splits), the loss itself (losses).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import torch

from shardkit import Mixture, open_loader
from trainer.data.collate import TrainBatch, collate
from trainer.data.media import Senses, Unfit
from trainer.data.reading import Reading, encode_item, is_held_out, loader_fields
from trainer.data.sources import Data
from trainer.data.tokenise import Encoded, Speech
from trainer.losses.parts import add_parts
from trainer.losses.sft import SftLoss
from trainer.model.omni import Omni
from trainer.run import Run
from trainer.spec import LossSpec, Modality

Rows = list[tuple[str, Encoded]]
EVAL_BATCH = 16


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss of an answer (itself a mean over its tokens), over all samples and by modality; number of samples.

    Each answer counts once: a page of code would drown the answers of two tokens beside it.
    """

    loss: float
    by_modality: dict[str, float]
    samples: dict[str, int]


def open_measure() -> Callable[[Run, str], None]:
    """What `train` calls before the first step and after the last; it reads and encodes the held-out samples once.

    After the last step it also notes `shuffled_image` and `shuffled_audio`, as the run's eval.shuffle says.
    """
    kept: list[Rows] = []

    def measure(run: Run, when: str) -> None:
        spec = run.spec
        if not (spec.data.held_out and spec.eval.samples):
            return
        if not kept:
            kept.append(read_held_out(run.dataset, run.reading, run.speech, run.model.senses, spec.eval.samples))
        media: tuple[Modality | None, ...] = (None, *spec.eval.shuffle) if when == "after" else (None,)
        for medium in media:
            found = held_out_loss(run.model, kept[0], run.speech.pad_id, medium)
            if found:
                run.note_held_out(f"shuffled_{medium}" if medium else when, msgspec.to_builtins(found))

    return measure


def read_held_out(dataset: Data, reading: Reading, speech: Speech, senses: Senses, most: int) -> Rows:
    """Up to `most` held-out samples of one epoch's order, sorted by key; the unfit (unlabelled, too long) left out.

    Of a mixture in its proportions; a sample that it repeats within the epoch counts once.
    """
    rows: dict[str, Encoded] = {}
    for items in open_loader(dataset, **loader_fields(reading, isinstance(dataset, Mixture))):
        for item in items:
            if not is_held_out(item.key, reading.data.held_out) or item.padded:
                continue
            with suppress(Unfit):
                rows[item.key] = encode_item(item, speech, senses, reading.data.max_tokens)
        if len(rows) >= most:
            break
    return sorted(list(rows.items())[:most])


def held_out_loss(model: Omni, rows: Rows, pad_id: int, shuffle_media: Modality | None = None) -> HeldOut | None:
    """The mean loss of an answer; none where there is no sample.

    `shuffle_media` gives every sample the images (or the sound) of another sample of the same kind: what is then
    lost is what the model had from them.
    """
    was_training, loss = model.training, SftLoss(LossSpec())
    model.eval()
    with torch.no_grad():
        shown = exchange(rows, shuffle_media) if shuffle_media else rows
        found = add_parts(loss(model, batch)[1] for batch in _batches(shown, model, pad_id))
    model.train(was_training)
    if not found.answers:
        return None
    return HeldOut(
        loss=sum(found.means.values()) / sum(found.answers.values()),
        by_modality={kind: found.means[kind] / found.answers[kind] for kind in sorted(found.means)},
        samples=found.answers,
    )


def exchange(rows: Rows, medium: Modality) -> Rows:
    """Rows whose images (or windows of sound) went round among rows of one kind that have equally many."""
    groups: dict[tuple[str, int], list[int]] = {}
    for at, (_, row) in enumerate(rows):
        count = len(row.images if medium == "image" else row.windows)
        if count:
            groups.setdefault((row.kind, count), []).append(at)
    result = list(rows)
    for group in groups.values():
        for at, giver in zip(group, [*group[1:], group[0]], strict=True):
            key, row = rows[at]
            given = rows[giver][1]
            if medium == "image":
                result[at] = (key, msgspec.structs.replace(row, images=given.images))
            else:
                result[at] = (key, msgspec.structs.replace(row, windows=given.windows, sounding=given.sounding))
    return result


def _batches(rows: Rows, model: Omni, pad_id: int) -> list[TrainBatch]:
    device = next(model.parameters()).device
    cuts = range(0, len(rows), EVAL_BATCH)
    return [collate(rows[at : at + EVAL_BATCH], model.senses, pad_id).to(device) for at in cuts]
