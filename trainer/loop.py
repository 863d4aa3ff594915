"""The training loop: draw, forward, backward, step, report, keep.

Here: one run from its spec to its last checkpoint, fresh or resumed.
Elsewhere: batches (data/stream.py), the model (model), losses, checkpoints, what is printed (cli.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import ShardkitError
from trainer.checkpoint import prune_checkpoints, save_checkpoint
from trainer.data.collate import TrainBatch
from trainer.data.reading import Drawn
from trainer.data.stream import epoch_of
from trainer.losses.sft import LossParts, add_parts, answer_weights, sft_loss
from trainer.metrics import plot_loss
from trainer.run import Run, open_run
from trainer.spec import OptimizerSpec, RunSpec

Report = Callable[[dict[str, Any]], None]
Measure = Callable[[Run, str], None]
"""Called with `before` and `after`: measures the model and leaves what it found with `Run.note_held_out`."""


class TrainingFailed(ShardkitError):
    """Training cannot go on: the loss or the gradient is not a number."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: its folder, steps done, held-out losses (`before`, `after`, `shuffled_image`, …)."""

    folder: str
    steps: int
    held_out: dict[str, Any]
    plot: str


def train(
    spec: RunSpec,
    data: str | Sequence[str],
    out: Path,
    *,
    resume: str = "auto",
    report: Report,
    measure: Measure | None = None,
) -> Outcome:
    """Train to `spec.steps` on the dataset at a path or URL; everything that the run leaves lies under `out`.

    `data` may be several, each with a weight as a prefix (`0.7=URL`); none takes the spec's data.datasets.

    `resume`: `auto` goes on from the newest whole checkpoint in `out`, `none` wants an empty folder, or the path of a
    checkpoint. `report` gets one dict per event: `start`, `warning`, `step`, `checkpoint`. `measure` comes from eval.
    Raises ShardkitError: bad input (exit code 2), or TrainingFailed.
    """
    with open_run(spec, data, out, resume, report) as run:
        if measure and not run.step:
            measure(run, "before")
        for step in range(run.step + 1, spec.steps + 1):
            entry = train_step(run, step)
            run.metrics.write(entry)
            report({"event": "step", **entry})
            if step % spec.checkpoint.every == 0 or step == spec.steps:
                keep(run, step, report)
        if measure:
            measure(run, "after")
        plot = plot_loss(out)
    return Outcome(folder=str(out), steps=run.step, held_out=run.held_out, plot=str(plot or ""))


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
        **_by_modality(parts),
        **_figures(run, drawn, batches, seconds, waited),
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
    weight = torch.stack([answer_weights(batch, run.spec.loss).sum() for batch in batches]).sum()
    total = torch.zeros((), device=run.device)
    parts = []
    for batch in batches:
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.spec.dtype == "bfloat16"):
            loss, part = sft_loss(run.model, batch, run.spec.loss)
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


def rate_at(step: int, steps: int, spec: OptimizerSpec) -> float:
    """The learning rate of a step (from 1): a pure function, so that a scheduler has no state to save."""
    from math import cos, pi

    if step <= spec.warmup:
        return spec.rate * step / spec.warmup
    share = (step - spec.warmup) / max(1, steps - spec.warmup)
    return spec.rate * (spec.floor + (1 - spec.floor) * 0.5 * (1 + cos(pi * min(1.0, share))))


def keep(run: Run, step: int, report: Report) -> None:
    """Write a checkpoint and remove the oldest; metrics reach the disk first."""
    run.metrics.sync()
    path = save_checkpoint(run.checkpoints, run.progress, run.model, run.optimizer, run.speech)
    prune_checkpoints(run.checkpoints, run.spec.checkpoint.keep, path)
    report({"event": "checkpoint", "step": step, "path": str(path)})


def _by_modality(parts: LossParts) -> dict[str, Any]:
    means = {kind: parts.sums[kind] / parts.tokens[kind] for kind in sorted(parts.sums)}
    return {"loss_by_modality": means, "answer_tokens": parts.tokens}


def _figures(run: Run, drawn: list[Drawn], batches: list[TrainBatch], seconds: float, waited: float) -> dict[str, Any]:
    tokens = sum(int(batch.attention.sum()) for batch in batches)
    left_out: dict[str, int] = {}
    for each in drawn:
        for reason, count in each.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return {
        "tokens_per_second": tokens / seconds,
        "data_wait": waited / seconds,
        "seconds": seconds,
        "tokens": run.progress.tokens,
        "samples": run.progress.samples,
        "read": sum(each.read for each in drawn),
        "left_out": left_out,
        "cut_tokens": sum(each.cut_tokens for each in drawn),
        "audio_cut": sum(each.cut_seconds for each in drawn),
        "epoch": epoch_of(drawn[-1].state),
        **({"damaged": damaged} if (damaged := [name for each in drawn for name in each.damaged]) else {}),
    } | ({"source_epochs": drawn[-1].source_epochs} if drawn[-1].source_epochs else {})
