"""What a run's spec asks for before there is a model: device and arithmetic, how it reads, its tokeniser.

Here: choosing and checking them.
Elsewhere: the run that is made of them (run.py), reading (data), the model as it begins (start.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import Mixture, SpecError, open_loader
from trainer.checkpoint import TOKENIZER
from trainer.data.reading import Reading, is_held_out, loader_fields, record_of
from trainer.data.sources import Data
from trainer.data.tokenise import Speech, load_speech, texts_of, train_speech
from trainer.distributed import World
from trainer.model.table import Model
from trainer.spec import RunSpec
from trainer.start import find_weights


def choose_device(spec: RunSpec, world: World | None = None) -> torch.device:
    """The device of a spec, each rank's own; raises SpecError where it is not there."""
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("device is cuda and torch finds no GPU; use device=cpu or device=auto")
    wanted = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cpu" or not world or world.size == 1:
        return torch.device(wanted)
    if world.local_rank >= torch.cuda.device_count():
        raise SpecError(f"{torch.cuda.device_count()} GPUs are here and more processes; start one a GPU by torchrun")
    return torch.device("cuda", world.local_rank)


def fix_arithmetic(spec: RunSpec, device: torch.device) -> None:
    """Make sums repeat: a fixed number of threads; on a GPU, where the spec asks for it, kernels that repeat theirs."""
    torch.set_num_threads(spec.threads)
    on_gpu = device.type == "cuda"
    if on_gpu and spec.speed.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(not on_gpu or spec.speed.deterministic, warn_only=on_gpu)


def check_length(model: Model, spec: RunSpec) -> None:
    """Refuse samples longer than the language model's positions, which would fail in the middle of a run."""
    most = getattr(model.language.config, "max_position_embeddings", None)
    if most and spec.data.max_tokens > most:
        raise SpecError(f"data.max_tokens is {spec.data.max_tokens}; the language model takes {most} at most")


def make_speech(spec: RunSpec, dataset: Data, reading: Reading) -> Speech:
    """The tokeniser of a fresh run: a pretrained one, or a BPE of the dataset's own training text."""
    if spec.tokenizer.pretrained:
        return load_speech(spec.tokenizer.pretrained)
    samples: list[Any] = []
    for items in open_loader(dataset, **loader_fields(reading, isinstance(dataset, Mixture))):
        mine = [record_of(item) for item in items if not is_held_out(item.key, spec.data.held_out)]
        samples += [sample for sample in mine if sample is not None]
        if len(samples) >= spec.tokenizer.samples:
            break
    return train_speech(texts_of(samples[: spec.tokenizer.samples]), spec.tokenizer.vocabulary)


def speech_of(spec: RunSpec, start: Path | None) -> Speech | None:
    """The tokeniser beside the weights that a run goes on from, or begins with; none where they are not a run's."""
    weights = start or (find_weights(spec.start) if spec.start else None)
    return load_speech(str(weights / TOKENIZER)) if weights else None


def reading_of(spec: RunSpec) -> Reading:
    """How a run reads, all ranks together: its batches are parts of its steps."""
    size = spec.batch_size // spec.accumulate
    return Reading(data=spec.data, seed=spec.seed, batch_size=size, accumulate=spec.accumulate)


def share_of(reading: Reading, world: World) -> Reading:
    """How this rank reads its part of every batch. Raises SpecError where ranks cannot share them evenly."""
    size, ranks = reading.batch_size, world.size
    if size % ranks:
        times = reading.accumulate
        raise SpecError(
            f"batch_size {size * times} in {times} parts is {size} a part, which {ranks} processes cannot share "
            f"evenly; give batch_size a multiple of {ranks * times}"
        )
    return msgspec.structs.replace(reading, batch_size=size // ranks, rank=world.rank, world_size=ranks)
