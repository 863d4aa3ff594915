"""The figures of a step, as they stand in metrics.jsonl.

Here: speed, waiting, what was read and left out, how full the rows are, memory, the loss by modality and source.
Elsewhere: joining steps, writing and plotting (metrics), the arithmetic of a step (flops.py), the step (step.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from trainer.data.collate import TrainBatch
from trainer.data.reading import Drawn
from trainer.data.stream import epoch_of
from trainer.flops import TERA
from trainer.losses.parts import LossParts
from trainer.run import Run


def by_part(parts: LossParts) -> dict[str, Any]:
    """The loss a token of each modality and source, and how many tokens of each modality carry loss."""
    means = {kind: parts.sums[kind] / parts.tokens[kind] for kind in sorted(parts.sums)}
    sources = {name: parts.source_sums[name] / parts.source_tokens[name] for name in sorted(parts.source_sums)}
    extra = {name: total / count for name, (total, count) in sorted(parts.extra.items())}
    return {"loss_by_modality": means, "answer_tokens": parts.tokens, **extra} | (
        {"loss_by_source": sources, "source_tokens": parts.source_tokens} if sources else {}
    )


def step_figures(run: Run, drawn: list[Drawn], seconds: float, waited: float) -> dict[str, Any]:
    """What a step read, how fast, and what it left out. Of this process; asks nothing of the device."""
    batches = [each.batch for each in drawn if each.batch is not None]
    rows = row_figures(batches, run.spec.data.pack.tokens if run.spec.data.pack else None)
    left_out: dict[str, int] = {}
    for each in drawn:
        for reason, count in each.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return {
        "tokens_per_second": rows["step_tokens"] / seconds,
        "samples_per_second": rows["step_samples"] / seconds,
        "data_wait": waited / seconds,
        "seconds": seconds,
        **use_figures(run.arithmetic.of(batches), seconds, run.peak_tflops),
        **rows,
        "peak_memory_bytes": peak_memory(run.device),
        "tokens": run.progress.tokens,
        "samples": run.progress.samples,
        "read": sum(each.read for each in drawn),
        "left_out": left_out,
        "cut_tokens": sum(each.cut_tokens for each in drawn),
        "audio_cut": sum(each.cut_seconds for each in drawn),
        "epoch": epoch_of(drawn[-1].state),
        **({"damaged": damaged} if (damaged := [name for each in drawn for name in each.damaged]) else {}),
    } | ({"source_epochs": drawn[-1].source_epochs} if drawn[-1].source_epochs else {})


def row_figures(batches: Sequence[TrainBatch], pack_tokens: int | None) -> dict[str, Any]:
    """Tokens, the share of the rows' places without one (`padding`), and what packs hold of what they may."""
    tokens = sum(batch.num_tokens for batch in batches)
    places = sum(batch.ids.numel() for batch in batches)
    samples = sum(len(batch.keys) for batch in batches)
    figures = {"step_tokens": tokens, "step_samples": samples, "padding": 1 - tokens / max(1, places)}
    if pack_tokens:
        figures["pack_fill"] = tokens / (pack_tokens * max(1, sum(len(batch.ids) for batch in batches)))
    return figures


def use_figures(operations: float, seconds: float, peak_tflops: float | None) -> dict[str, float]:
    """Achieved TFLOP/s; and its share of the device's peak (`mfu`) where that is known."""
    achieved = operations / seconds / TERA
    return {"tflops": achieved} | ({"mfu": achieved / peak_tflops} if peak_tflops else {})


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by tensors on a GPU, else by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # kilobytes elsewhere
