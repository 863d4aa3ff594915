"""What a run reports: metrics.jsonl with one object a step, and the plot of the loss.

Here: writing, cutting back at a resume, plotting.
Elsewhere: what the figures mean (loop.py, losses).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"
PLOT = "loss.png"


class MetricsFile:
    """metrics.jsonl of a run, cut back to `step` when opened: lines of later steps and torn lines are removed."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / FILE
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        temporary = folder / f".{FILE}.tmp"
        temporary.write_text("".join(_line(entry) for entry in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one object; it is in the file when this returns."""
        self._file.write(_line(entry))
        self._file.flush()

    def sync(self) -> None:
        """Make what was written survive a power loss; called before each checkpoint."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's metrics; those that a crash tore are left out."""
    try:
        text = (folder / FILE).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    entries = []
    for line in text.split("\n"):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries


def plot_loss(folder: Path) -> Path | None:
    """Draw loss.png: the loss and its parts by modality over the steps; none where no step was done."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    entries = [entry for entry in read_metrics(folder) if isinstance(entry.get("loss"), (int, float))]
    if not entries:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    for kind in sorted({kind for entry in entries for kind in entry.get("loss_by_modality", {})}):
        points = [(e["step"], e["loss_by_modality"][kind]) for e in entries if kind in e.get("loss_by_modality", {})]
        axes.plot(*zip(*points, strict=True), linewidth=0.9, alpha=0.7, label=kind)
    axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], color="black", linewidth=1.6, label="loss")
    axes.set(xlabel="step", ylabel="loss a token (nats)", title=folder.resolve().name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    temporary = folder / f".{PLOT}.tmp"
    figure.savefig(temporary, format="png")
    pyplot.close(figure)
    temporary.replace(folder / PLOT)
    return folder / PLOT


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=True) + "\n"
