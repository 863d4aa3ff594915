"""The plot of the loss: loss.png.

Here: drawing it.
Elsewhere: the page of all curves (page.py), the lines that it shows (lines.py).
"""

from __future__ import annotations

from pathlib import Path

from trainer.metrics.lines import read_evaluations, read_metrics
from trainer.records import is_number

PLOT = "loss.png"


def plot_loss(folder: Path) -> Path | None:
    """Draw loss.png: the loss, its parts by modality, held-out losses over the steps; none where no step was done."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    entries = [entry for entry in read_metrics(folder) if is_number(entry.get("loss"))]
    if not entries:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    for kind in sorted({kind for entry in entries for kind in entry.get("loss_by_modality", {})}):
        named = [(entry["step"], entry.get("loss_by_modality", {}).get(kind)) for entry in entries]
        points = [(step, loss) for step, loss in named if is_number(loss)]
        axes.plot(*_columns(points), linewidth=0.9, alpha=0.7, label=kind)
    axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], color="black", linewidth=1.6, label="loss")
    held_out = [(line["step"], line["loss"]) for line in read_evaluations(folder) if is_number(line.get("loss"))]
    if held_out:
        axes.plot(*_columns(held_out), "o", color="black", markerfacecolor="white", label="held-out answers")
    axes.set(xlabel="step", ylabel="loss a token (nats)", title=folder.resolve().name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    temporary = folder / f".{PLOT}.tmp"
    figure.savefig(temporary, format="png")
    pyplot.close(figure)
    temporary.replace(folder / PLOT)
    return folder / PLOT


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
