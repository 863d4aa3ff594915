"""What happens when a step goes wrong: which steps are bad, when a run ends, the names of the samples.

Here: judging a step, keeping count, skipped.jsonl.
Elsewhere: skipping (step.py), memory (memory.py), checkpoints (checkpoint).
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from shardkit import ShardkitError
from trainer.checkpoint import Progress
from trainer.metrics.lines import as_line, cut_back, read_lines
from trainer.spec import FailureSpec

SKIPPED = "skipped.jsonl"
OVERFLOW = "overflow"
"""Why a step of float16 is skipped whose scaled gradients were too large: no fault of its samples."""
FEWEST = 8
"""Good steps before a spike can be told: a median of fewer says little."""


class TrainingFailed(ShardkitError):
    """Training cannot go on: too many steps in a row were bad, or one sample does not fit into memory."""


def judge(spec: FailureSpec, progress: Progress, loss: float, norm: float) -> str:
    """Why a step is bad; empty for a good one. `loss` and `norm` are of all ranks together."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "not finite"
    if spec.spike is None or len(progress.recent) < min(FEWEST, spec.window):
        return ""
    for name, value, usual in zip(
        ("loss", "gradient norm"), (loss, norm), zip(*progress.recent, strict=True), strict=True
    ):
        limit = spec.spike * median(usual)
        if value > limit:
            return f"{name} {value:.4g} is above {spec.spike:g} times its median, {limit / spec.spike:.4g}"
    return ""


def counted(spec: FailureSpec, progress: Progress, loss: float, norm: float, bad: str) -> Progress:
    """The progress with a step judged: the running statistic takes good steps only."""
    if bad == OVERFLOW:
        return msgspec.structs.replace(progress, overflows=progress.overflows + 1)
    if bad:
        return msgspec.structs.replace(progress, streak=progress.streak + 1, skipped=progress.skipped + 1)
    recent = (*progress.recent, (loss, norm))[-spec.window :] if spec.spike is not None else ()
    return msgspec.structs.replace(progress, recent=recent, streak=0)


def check_streak(spec: FailureSpec, progress: Progress, entry: dict[str, Any]) -> None:
    """End a run that skipped too many steps in a row. Raises TrainingFailed with the samples of the last."""
    if progress.streak <= spec.most_skipped:
        return
    keys = ", ".join(entry["keys"][:8])
    raise TrainingFailed(
        f"step {entry['step']}: {progress.streak} steps in a row were bad, this one with loss {entry['loss']}, "
        f"gradient norm {entry['gradient_norm']} ({entry['reason']}); no checkpoint of them was written. Begin anew "
        f"(another --out) with a smaller optimizer.rate, or look at samples {keys} and the others in {SKIPPED}"
    )


class SkippedFile:
    """skipped.jsonl of a run, one object a skipped step; cut back to `step` when opened."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / SKIPPED
        if self.path.exists():
            cut_back(self.path, step)

    def write(self, entry: dict[str, Any]) -> None:
        """Append one object; it is in the file when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_line(entry))


def read_skipped(folder: Path) -> list[dict[str, Any]]:
    """The skipped steps of a run; a line that a crash tore is left out."""
    return read_lines(folder / SKIPPED)
