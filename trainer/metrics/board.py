"""The same figures as TensorBoard events, in the run's folder `tb`.

Here: the writer, names of curves.
Elsewhere: the lines that it follows (recorder.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shardkit import SpecError

FOLDER = "tb"
GROUPS = {
    "loss_by_modality": "loss_by_modality", "loss_by_source": "loss_by_source", "left_out": "left_out",
    "answer_tokens": "answer_tokens", "by_modality": "held_out_by_modality", "by_category": "held_out_by_category",
    "by_source": "held_out_by_source",
}  # fmt: skip


class Board:
    """Events of a run from `step` on; readers drop what an earlier process wrote of the steps behind it."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SpecError(
                "metrics.tensorboard is true and tensorboard is not installed; "
                "`pip install shardkit[train]`, or set metrics.tensorboard=false"
            ) from None
        behind = step + 1 if step else 0  # a run that begins is measured before its first step
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=behind)

    def write(self, entry: Mapping[str, Any], prefix: str = "") -> None:
        """Every number of a line at its step, those of groups under the group's name."""
        for name, value in curves(entry):
            self._writer.add_scalar(prefix + name, value, entry["step"])

    def sync(self) -> None:
        """Hand everything to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file of events."""
        self._writer.close()


def curves(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and numbers of a line: `loss`, `loss_by_modality/image`, …; what is no number is left out."""
    for name, value in entry.items():
        if name == "step" or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            yield name, float(value)
        elif isinstance(value, dict):
            yield from ((f"{GROUPS.get(name, name)}/{key}", each) for key, each in curves(value))
