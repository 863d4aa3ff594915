"""The command that measures a trained run: `eval`.

Here: its options, its closing lines.
Elsewhere: what it does (trainer.eval).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trainer.cli.options import DataOption, JsonOption, print_event, show


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    data: DataOption = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many held-out samples.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """Held-out loss of a run's newest checkpoint, and with each medium exchanged among the samples.

    Example: trainer eval runs/demo --data data/demo-sample-20
    """
    from trainer.eval.command import evaluate_run

    found = evaluate_run(folder, data or (), samples)
    if as_json:
        print_event({"event": "done", **found})
    else:
        show("\n".join(summary(str(folder), "", found)))


def summary(folder: str, plot: str, held_out: dict[str, Any]) -> list[str]:
    """The closing lines: held-out losses, what exchanged media cost, where everything lies."""
    lines = []
    before, after = held_out.get("before"), held_out.get("after")
    if after:
        start = f"{before['loss']:.3f} -> " if before else ""
        lines.append(f"held-out loss {start}{after['loss']:.3f}")
    for name, found in held_out.items():
        medium = name.removeprefix("shuffled_")
        if medium != name and found and after and medium in after["by_modality"]:
            own, other = after["by_modality"][medium], found["by_modality"][medium]
            lines.append(f"held-out {medium} loss {own:.3f}; with the {medium} of another sample {other:.3f}")
    lines += [f"plot {plot}"] if plot else []
    return [*lines, f"metrics, checkpoints and held-out losses in {folder}"]
