"""One optimizer step: draw, forward, backward, clip, update; or none, where it is bad.

Here: a step over the batches that it accumulates, on all ranks.
Elsewhere: the loop around it (loop.py), its figures (figures.py), losses, the optimizer (optim.py), which steps are bad
(failure.py), batches too large for the memory (memory.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from trainer.data.collate import TrainBatch
from trainer.data.reading import Drawn
from trainer.distributed import World
from trainer.distributed.merge import merge_figures
from trainer.distributed.parallel import whole
from trainer.failure import OVERFLOW, check_streak, counted, judge
from trainer.failure import TrainingFailed as TrainingFailed
from trainer.figures import by_part, step_figures
from trainer.losses.parts import LossParts, add_parts
from trainer.memory import free_memory, is_out_of_memory
from trainer.model.precision import computing
from trainer.optim import rate_at
from trainer.probe import limit_rows
from trainer.run import Run


def train_step(run: Run, step: int) -> dict[str, Any]:
    """One optimizer step over `accumulate` batches; returns the line of metrics.jsonl, of all ranks together.

    A bad step changes no weights and counts as one, as does one in which float16 overflowed. Raises TrainingFailed,
    RankLost.
    """
    began = time.perf_counter()
    drawn = list(draw(run.stream, run.spec.accumulate, run.world))
    waited = time.perf_counter() - began
    batches = [each.batch.to(run.device) for each in drawn if each.batch is not None]
    limit_rows(run, batches)
    total, parts = accumulate(run, batches)
    norm = gather_gradients(run)
    loss, size = torch.stack([run.world.sum(total), whole(norm).to(total)]).tolist()
    run.advance(step, drawn)
    bad = settle(run, step, loss, size, batches)
    if not bad:
        descend(run, step, norm)
    run.optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    figures = merge_figures(run.world.gather(step_figures(run, drawn, seconds, waited)))
    return {
        "step": step,
        "loss": loss,
        **by_part(add_parts(run.world.gather(parts))),
        **figures,
        "gradient_norm": size,
        "learning_rate": rate_at(step, run.spec.steps, run.spec.optimizer),
        "skipped": run.progress.skipped,
        **run.scaler.figures(run.progress.overflows),
        **({"skip": bad} if bad else {}),
    }


def draw(stream: Iterator[Drawn], number: int, world: World) -> Iterator[Drawn]:
    """`number` drawings, and on until one of them, on any rank, has something to train on."""
    useful = False
    count = 0
    while count < number or not world.any(useful):
        drawn = next(stream)
        useful = useful or drawn.batch is not None
        count += 1
        yield drawn


def accumulate(run: Run, batches: list[TrainBatch]) -> tuple[torch.Tensor, LossParts]:
    """Gradients of the mean loss over all batches of a step on all ranks, as if they were one; this rank's share of
    the loss, and its parts.

    A batch that is too large for the memory is done in halves: the whole step anew, since a backward pass that broke
    off has left gradients. Raises TrainingFailed where that is of no use.
    """
    weight = torch.zeros((), device=run.device)
    if batches:
        weight = torch.stack([run.loss.weight(batch) for batch in batches]).sum()
    weight = run.world.sum(weight)
    pieces = run.room.cut(batches)
    while True:
        states = torch.get_rng_state(), torch.cuda.get_rng_state() if run.device.type == "cuda" else None
        found = _pass(run, pieces, weight)
        if not isinstance(found, int):
            return found
        run.optimizer.zero_grad(set_to_none=True)
        free_memory()
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1])
        pieces = run.room.halve(pieces, found)


def _pass(run: Run, pieces: list[TrainBatch], weight: torch.Tensor) -> tuple[torch.Tensor, LossParts] | int:
    """Forward and backward over all pieces; or the number of that which did not fit into memory."""
    total = torch.zeros((), device=run.device)
    parts = []
    for at, (piece, share) in enumerate(_with_blanks(run, pieces)):
        try:
            with computing(run.device, run.spec.dtype):
                loss, part = run.loss(run.model, piece)
            run.scaler.scaled(loss * share / weight).backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if run.parallel.kind == "fsdp":  # the others are in the middle of the same layer and cannot go back
                raise TrainingFailed(
                    f"out of memory on rank {run.world.rank} with {piece.ids.shape[0]} rows of {piece.ids.shape[1]} "
                    f"tokens; a model that is cut up cannot try again: set micro_batch lower and run again"
                ) from error
            return at
        if share:
            total = total + loss.detach() / weight
            parts.append(part)
    return total, add_parts(parts)


def _with_blanks(run: Run, pieces: list[TrainBatch]) -> Iterator[tuple[TrainBatch, float]]:
    """Pieces, each with what its loss is multiplied with.

    Where the model is cut up, or the loss compares the samples of all ranks, these must do equally many passes: one
    with fewer repeats another's for nothing.
    """
    factor = run.parallel.loss_factor()
    together = run.parallel.kind == "fsdp" or getattr(run.loss, "gathers", False)
    counts = run.world.gather(len(pieces)) if together else [len(pieces)]
    most, blank = max(counts), None
    if min(counts) < most:  # agreed before the first pass: from then on the ranks talk within the model
        giver = counts.index(most)
        blank = run.world.broadcast(pieces[0].to(torch.device("cpu")) if run.world.rank == giver else None, giver)
    yield from ((piece, factor) for piece in pieces)
    for _ in range(most - len(pieces)):
        assert blank is not None, "the rank with the most pieces gave one"
        yield blank.to(run.device), 0.0


def gather_gradients(run: Run) -> torch.Tensor:
    """The gradients of all ranks on each, and their norm ()."""
    run.parallel.gradients(run.trainable)
    run.scaler.unscale(run.optimizer)
    return run.parallel.norm(run.trainable)


def settle(run: Run, step: int, loss: float, norm: float, batches: list[TrainBatch]) -> str:
    """Judge a step, for all ranks alike, and keep count; why it is bad. Raises TrainingFailed after too many."""
    failure = run.spec.failure
    found = OVERFLOW if run.scaler.has_overflowed(loss, norm) else judge(failure, run.progress, loss, norm)
    bad = max(run.world.gather(found)) if run.world.size > 1 else found
    run.progress = counted(failure, run.progress, loss, norm, bad)
    run.scaler.update(bad)
    if bad and bad != OVERFLOW:
        keys = [key for own in run.world.gather([key for batch in batches for key in batch.keys]) for key in own]
        entry = {"step": step, "reason": bad, "loss": loss, "gradient_norm": norm, "keys": keys}
        run.note_skipped(entry)
        check_streak(failure, run.progress, entry)
    return bad


def descend(run: Run, step: int, norm: torch.Tensor) -> None:
    """Clip, set the step's learning rate, update."""
    torch.nn.utils.clip_grads_with_norm_(run.trainable, run.spec.optimizer.clip or float("inf"), norm)
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(step, run.spec.steps, run.spec.optimizer)
    run.optimizer.step()
