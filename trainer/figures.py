"""The figures of a step, as they stand in metrics.jsonl.

Here: speed, waiting, what was read and left out, the loss by modality.
Elsewhere: writing and plotting them (metrics.py), the step (step.py).
"""

from __future__ import annotations

from typing import Any

from trainer.data.collate import TrainBatch
from trainer.data.reading import Drawn
from trainer.data.stream import epoch_of
from trainer.losses.parts import LossParts
from trainer.run import Run


def by_modality(parts: LossParts) -> dict[str, Any]:
    """The loss a token of each modality, and how many tokens carry loss."""
    means = {kind: parts.sums[kind] / parts.tokens[kind] for kind in sorted(parts.sums)}
    return {"loss_by_modality": means, "answer_tokens": parts.tokens}


def step_figures(
    run: Run, drawn: list[Drawn], batches: list[TrainBatch], seconds: float, waited: float
) -> dict[str, Any]:
    """What a step read, how fast, and what it left out."""
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
