"""A checkpoint's contents copied out of a running model, so that training can go on while they are written.

Here: copying, into pinned memory from a GPU, whole tensors on rank 0 only.
Elsewhere: which tensors (tensors.py), writing them (files.py, writer.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from trainer.checkpoint.files import Progress, Snapshot, write_checkpoint
from trainer.checkpoint.generators import save_generators
from trainer.checkpoint.tensors import optimizer_tensors, stored_parameters
from trainer.data.tokenise import Speech
from trainer.distributed.parallel import whole
from trainer.distributed.world import World


class Copier:
    """Copies tensors to host memory that it keeps: the next copy of the same names overwrites it.

    So the memory of one copy is enough, and a GPU's copies go to page-locked memory at the link's speed.
    """

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def copy(self, named: Iterable[tuple[str, torch.Tensor]], prefix: str, keep: bool) -> dict[str, torch.Tensor]:
        """Tensors by name, whole, in host memory; nothing of them unless `keep`. One tensor is whole at a time."""
        copied = {}
        for name, tensor in named:
            value = whole(tensor.detach())
            if keep:
                copied[name] = self._copied(prefix + name, value)
        return copied

    def _copied(self, name: str, value: torch.Tensor) -> torch.Tensor:
        held = self._held.get(name)
        if held is None or held.shape != value.shape or held.dtype != value.dtype:
            held = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            self._held[name] = held
        return held.copy_(value, non_blocking=True)


def take_snapshot(
    progress: Progress,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    speech: Speech,
    *,
    world: World,
    copier: Copier,
) -> Snapshot | None:
    """The state of a run as it is now, on rank 0; none on the others, which must ask too."""
    keep = world.is_first
    weights = copier.copy(stored_parameters(model), "model/", keep)
    moments = copier.copy(optimizer_tensors(model, optimizer), "optimizer/", keep)
    generators = save_generators(world)
    if not keep:
        return None
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Snapshot(progress=progress, model=weights, optimizer=moments, random=generators, speech=speech)


def save_checkpoint(
    folder: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Optimizer, speech: Speech
) -> Path:
    """Write a checkpoint of one process now. Raises CheckpointFailed, and leaves nothing of it."""
    snapshot = take_snapshot(progress, model, optimizer, speech, world=World(), copier=Copier())
    assert snapshot is not None, "a single process is the first"
    return write_checkpoint(folder, snapshot)
