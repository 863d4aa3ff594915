"""Where a run's weights come from when it begins: the best checkpoint of another run.

Here: what `start` of a spec means, the model as a run begins.
Elsewhere: a checkpoint's files, which of them is best (checkpoint).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from shardkit import SpecError
from trainer.checkpoint import STATE, Damaged, best_checkpoint, load_model, read_progress
from trainer.data.tokenise import Speech
from trainer.model.precision import settle_precision
from trainer.model.table import Model, make_model
from trainer.model.trainable import set_trainable
from trainer.spec import RunSpec


def find_weights(start: str) -> Path:
    """The checkpoint that a spec's `start` means: itself, or the best one of a run's folder. Raises SpecError."""
    path = Path(start)
    if (path / STATE).is_file():
        try:
            read_progress(path)
        except Damaged as error:
            raise SpecError(f"start: the checkpoint {path} is not whole ({error}); give another") from None
        return path
    best = best_checkpoint(path / "checkpoints")
    if best is None:
        raise SpecError(f"start is {start!r}: no whole checkpoint there; wanted a folder step-NNNNNNNN, or a run's")
    return best


def begin_model(spec: RunSpec, speech: Speech, *, resumed: bool) -> Model:
    """The model of a run as it begins: its parts, what of them trains, their precision, the weights of `start`."""
    model = make_model(spec.model, speech)
    if spec.trainable is not None:
        set_trainable(model, spec.trainable)
    settle_precision(model, getattr(torch, spec.dtype))
    load_start(model, spec.start, resumed=resumed)
    return model


def load_start(model: nn.Module, start: str, *, resumed: bool) -> None:
    """Put the weights of a spec's `start` into a model, if it names any.

    A resumed run takes its own checkpoint's over them. Losses that compare with the beginning want them first all the
    same; where they are gone, the others go on without.
    """
    if not start:
        return
    try:
        weights = find_weights(start)
    except SpecError:
        if resumed:
            return
        raise
    load_model(weights, model)
