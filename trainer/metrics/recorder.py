"""Where the figures of a run go: lines of JSON always, TensorBoard where asked; a window of steps a line.

Here: one object that the loop writes to.
Elsewhere: joining steps (window.py), the files (lines.py, board.py), the page (page.py).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.metrics.board import Board
from trainer.metrics.lines import EVALUATIONS, MetricsFile, read_evaluations
from trainer.metrics.page import write_page
from trainer.metrics.window import Waiting, join
from trainer.spec import MetricsSpec


class Metrics:
    """The metrics of a run in `folder` that stands at `step`; what an earlier process wrote of later steps is cut off.

    A line is written every `log_every` steps and before each checkpoint, so that a resumed run writes the same lines.
    """

    def __init__(self, folder: Path, step: int, spec: MetricsSpec) -> None:
        self._folder = folder
        self._spec = spec
        self._board = Board(folder, step) if spec.tensorboard else None
        self._lines = MetricsFile(folder, step)
        if read_evaluations(folder):
            MetricsFile(folder, step, EVALUATIONS).close()
        self._waiting = Waiting(spec.window)
        self._window: list[dict[str, Any]] = []
        self._notes: dict[str, float] = {}

    @property
    def held_out_loss(self) -> float | None:
        """The held-out loss of the newest evaluation, none where there was none."""
        return next((line["loss"] for line in reversed(read_evaluations(self._folder)) if "loss" in line), None)

    def write(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Take a step's figures in; the line that was written, if one was due."""
        self._window.append({**entry, **self._waiting.add(entry), **self._notes})
        self._notes = {}
        return self._flush() if entry["step"] % self._spec.log_every == 0 else None

    def note(self, **figures: float) -> None:
        """Figures of what happened between two steps; they go with the next one."""
        self._notes.update(figures)

    def write_evaluation(self, entry: dict[str, Any]) -> None:
        """A line of eval.jsonl; one of the same step is replaced."""
        file = MetricsFile(self._folder, entry["step"] - 1, EVALUATIONS)
        file.write(entry)
        file.sync()
        file.close()
        if self._board:
            self._board.write({f"held_out_{k}" if k == "loss" else k: v for k, v in entry.items()}, "eval/")

    def write_page(self) -> Path | None:
        """Write metrics.html of what there is so far, where the spec wants it."""
        return write_page(self._folder) if self._spec.html else None

    def sync(self) -> None:
        """Write the steps that wait for a line, and make everything survive a power loss; before each checkpoint."""
        self._flush()
        self._lines.sync()
        if self._board:
            self._board.sync()

    def close(self) -> None:
        """Write the steps that wait for a line, close the files and draw the page, also of a run that was stopped."""
        self._flush()
        self._lines.close()
        if self._board:
            self._board.close()
        with suppress(OSError):  # the lines are safe; a full disk must not hide why a run ended
            self.write_page()

    def _flush(self) -> dict[str, Any] | None:
        if not self._window:
            return None
        line = join(self._window)
        self._window = []
        self._lines.write(line)
        if self._board:
            self._board.write(line)
        return line


class Unwritten:
    """The metrics of ranks that write none: rank 0 does so for all."""

    held_out_loss: float | None = None

    def write(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Write nothing."""

    def note(self, **figures: float) -> None:
        """Note nothing."""

    def write_evaluation(self, entry: dict[str, Any]) -> None:
        """Write nothing."""

    def write_page(self) -> Path | None:
        """Write nothing."""

    def sync(self) -> None:
        """Nothing to sync."""

    def close(self) -> None:
        """Nothing to close."""
