"""How many rows fit into a GPU's memory: measured on one and on two rows before the first step.

Here: the rows to measure on, the measurement, reckoning from it.
Elsewhere: cutting batches (memory.py), which also halves what does not fit after all.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch

from trainer.data.collate import TrainBatch
from trainer.data.split import take_rows
from trainer.memory import free_memory, is_out_of_memory
from trainer.model.precision import computing
from trainer.run import Run

SHARE = 0.9
"""Of the memory that rows may take: samples differ, and the allocator leaves gaps."""


def limit_rows(run: Run, batches: list[TrainBatch]) -> None:
    """On a GPU with micro_batch auto, measure and set how many rows one pass takes, the same on every rank; once.

    Waits for a step in which every rank has rows to measure on.
    """
    unit = run.room.unit
    if run.device.type != "cuda" or not run.room.is_open or not unit:
        return
    batch = max(batches, key=lambda each: len(each.ids), default=None)
    if run.world.any(batch is None or len(batch.ids) < 2 * unit):
        return
    assert batch is not None, "every rank has one"
    pack = run.spec.data.pack
    tokens = pack.tokens if pack else run.spec.data.max_tokens
    free = int(SHARE * torch.cuda.get_device_properties(run.device).total_memory)
    rows = fitting_rows(batch, unit, tokens, lambda part: measure_pass(run, part), free)
    rows = -int(run.world.most(torch.tensor(-rows)))  # the least of all ranks
    run.room.limit(rows)
    if rows < len(batch.ids):
        run.report({"event": "warning", "text": f"micro_batch: {rows} rows of {tokens} tokens fit into memory at once"})


def fitting_rows(
    batch: TrainBatch, unit: int, tokens: int, measure: Callable[[TrainBatch], int], free_bytes: int
) -> int:
    """How many rows of so many tokens fit into so many bytes, from what `measure` finds for one and two of them.

    `unit` rows belong together and count as one. At least one; 0 bytes measured means that it did not fit.
    """
    rows = len(batch.ids)
    start = max(range(0, rows - 2 * unit + 1, unit), key=lambda at: _media(take_rows(batch, at, at + 2 * unit)))
    first = measure(widen(take_rows(batch, start, start + unit), tokens))
    second = measure(widen(take_rows(batch, start, start + 2 * unit), tokens))
    if not (first and second):
        return unit
    more = (free_bytes - first) // max(1, second - first)
    return unit * max(1, 1 + more)


def widen(batch: TrainBatch, tokens: int) -> TrainBatch:
    """The batch with rows of so many tokens, all of them attended to: the longest that may come."""
    missing = tokens - batch.ids.shape[1]
    if missing <= 0:
        return batch
    wide: dict[str, torch.Tensor | None] = {
        "ids": torch.nn.functional.pad(batch.ids, (0, missing), value=0),
        "attention": torch.nn.functional.pad(batch.attention, (0, missing), value=True),
        "labels": torch.nn.functional.pad(batch.labels, (0, missing), value=0),
    }
    if batch.segments is not None and batch.positions is not None:
        wide["segments"] = torch.cat([batch.segments, batch.segments[:, -1:].expand(-1, missing)], dim=1)
        following = torch.arange(missing, device=batch.ids.device)
        wide["positions"] = torch.cat([batch.positions, following.expand(len(batch.ids), -1)], dim=1)
    return msgspec.structs.replace(batch, **wide)


def measure_pass(run: Run, batch: TrainBatch) -> int:
    """Most bytes of GPU memory in a forward and backward pass, its gradients and random numbers undone.

    0 where they did not do (a model that is cut up cannot go on then, and the error comes through).
    """
    state = torch.get_rng_state(), torch.cuda.get_rng_state(run.device)
    free_memory()
    torch.cuda.reset_peak_memory_stats(run.device)
    try:
        with computing(run.device, run.spec.dtype):
            loss, _ = run.loss(run.model, batch)
        (0.0 * loss).backward()
        return torch.cuda.max_memory_allocated(run.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or run.parallel.kind == "fsdp":
            raise
        return 0
    finally:
        run.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(state[0])
        torch.cuda.set_rng_state(state[1], run.device)


def _media(batch: TrainBatch) -> int:
    return len(batch.images) + len(batch.mels)
