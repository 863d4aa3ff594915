"""What a run has to be told of at its end: a loss that grew instead of falling, samples that were refused.

Here: judging a finished run by its own lines.
Elsewhere: single bad steps (failure.py), the lines (metrics), the loop that asks (loop.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from trainer.metrics import read_metrics
from trainer.records import is_number
from trainer.spec import RunSpec

LAST = 5
"""Lines at the end whose median is the run's last loss: a single hard batch is no divergence."""
TIMES = 2.0
"""A last loss of more than so many times the first one, or that of guessing, has diverged."""
OF_TOKENS = ("sft", "language")
NOT_REFUSED = ("held-out", "padding")
"""Reasons for which samples are left out of training as they should be."""


def closing_warnings(folder: Path, spec: RunSpec, vocabulary: int) -> Iterator[str]:
    """What is wrong with a run as a whole, a line each; nothing of one that went well."""
    lines = read_metrics(folder)
    yield from _divergence(lines, spec, vocabulary)
    yield from _refused(lines)
    yield from _skipped(lines)


def _divergence(lines: Sequence[dict[str, Any]], spec: RunSpec, vocabulary: int) -> Iterator[str]:
    losses = [line["loss"] for line in lines if is_number(line.get("loss")) and "skip" not in line]
    if not losses:
        return
    guess = math.log(vocabulary) if spec.loss.name in OF_TOKENS else 1.0
    last = median(losses[-LAST:])
    if last > TIMES * max(losses[0], guess):
        beside = f", and guessing among {vocabulary:,} tokens costs {guess:.1f}" if spec.loss.name in OF_TOKENS else ""
        yield (
            f"the run has diverged: its loss ends at {last:.4g}; it began at {losses[0]:.4g}{beside}. Its last weights "
            f"are of no use: train anew with a smaller optimizer.rate, or take an earlier checkpoint (--checkpoint)"
        )


def _refused(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    left_out: Counter[str] = Counter()
    for line in lines:
        left_out.update(line.get("left_out", {}))
    expected = sum(left_out.pop(reason, 0) for reason in NOT_REFUSED)
    read = sum(line.get("read", 0) for line in lines) + left_out["damaged"] - expected
    refused = left_out.total()
    if 2 * refused > read:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common() if count)
        yield (
            f"{refused:,} of {read:,} samples read were left out of the training ({reasons}); "
            f"look at data.max_tokens, at the model's parts, and at `shardkit stats` for what the dataset holds"
        )


def _skipped(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    steps = lines[-1]["step"] if lines else 0
    skipped = max((line.get("skipped", 0) for line in lines), default=0)
    if 2 * skipped > steps:
        yield f"{skipped:,} of {steps:,} steps were skipped as bad; see skipped.jsonl, and a smaller optimizer.rate"
