"""One optimizer step: draw, forward, backward, clip, update.

Here: a step over the batches that it accumulates.
Elsewhere: the loop around it (loop.py), its figures (figures.py), losses, the optimizer (optim.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from shardkit import ShardkitError
from trainer.data.collate import TrainBatch
from trainer.data.reading import Drawn
from trainer.figures import by_part, step_figures
from trainer.losses.parts import LossParts, add_parts
from trainer.optim import rate_at
from trainer.run import Run


class TrainingFailed(ShardkitError):
    """Training cannot go on: the loss or the gradient is not a number."""


def train_step(run: Run, step: int) -> dict[str, Any]:
    """One optimizer step over `accumulate` batches; returns the line of metrics.jsonl."""
    began = time.perf_counter()
    drawn = list(draw(run.stream, run.spec.accumulate))
    waited = time.perf_counter() - began
    batches = [each.batch.to(run.device) for each in drawn if each.batch is not None]
    loss, parts = accumulate(run, batches)
    norm = descend(run, step)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        keys = ", ".join(key for batch in batches for key in batch.keys[:4])
        raise TrainingFailed(
            f"step {step}: loss {loss.item()}, gradient norm {norm.item()}; no checkpoint of it was written. "
            f"Try a smaller optimizer.rate, or look at samples {keys}"
        )
    run.advance(step, drawn)
    seconds = time.perf_counter() - began
    return {
        "step": step,
        "loss": loss.item(),
        **by_part(parts),
        **step_figures(run, drawn, seconds, waited),
    } | {
        "gradient_norm": norm.item(),
        "learning_rate": rate_at(step, run.spec.steps, run.spec.optimizer),
    }


def draw(stream: Iterator[Drawn], number: int) -> Iterator[Drawn]:
    """`number` drawings, and on until one of them has something to train on."""
    useful = False
    count = 0
    while count < number or not useful:
        drawn = next(stream)
        useful = useful or drawn.batch is not None
        count += 1
        yield drawn


def accumulate(run: Run, batches: list[TrainBatch]) -> tuple[torch.Tensor, LossParts]:
    """Gradients of the mean loss over all batches of a step, as if they were one; the loss and its parts."""
    weight = torch.stack([run.loss.weight(batch) for batch in batches]).sum()
    total = torch.zeros((), device=run.device)
    parts = []
    for batch in batches:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.spec.dtype == "bfloat16"):
            loss, part = run.loss(run.model, batch)
        (loss / weight).backward()
        total = total + loss.detach() / weight
        parts.append(part)
    return total, add_parts(parts)


def descend(run: Run, step: int) -> torch.Tensor:
    """Clip, set the step's learning rate, update, clear; returns the gradient's norm before clipping."""
    clip = run.spec.optimizer.clip or float("inf")
    norm = torch.nn.utils.clip_grad_norm_(run.trainable, clip)
    for group in run.optimizer.param_groups:
        group["lr"] = rate_at(step, run.spec.steps, run.spec.optimizer)
    if torch.isfinite(norm):
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return norm
