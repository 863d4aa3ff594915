"""The plot of the loss: loss.png.

Here: drawing it.
Elsewhere: the page of all curves (page.py), the lines that it shows (lines.py).
"""

from __future__ import annotations

from pathlib import Path

from trainer.metrics.lines import read_evaluations, read_metrics

PLOT = "loss.png"


def plot_loss(folder: Path) -> Path | None:
    """Draw loss.png: the loss, its parts by modality, held-out losses over the steps; none where no step was done."""
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
    held_out = [(line["step"], line["loss"]) for line in read_evaluations(folder) if "loss" in line]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o", color="black", markerfacecolor="white", label="held-out answers")
    axes.set(xlabel="step", ylabel="loss a token (nats)", title=folder.resolve().name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    temporary = folder / f".{PLOT}.tmp"
    figure.savefig(temporary, format="png")
    pyplot.close(figure)
    temporary.replace(folder / PLOT)
    return folder / PLOT
