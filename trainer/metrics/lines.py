"""Files of JSON lines beside a run: metrics.jsonl with one object a logged step, eval.jsonl with one an evaluation.

Here: writing, reading, cutting back at a resume.
Elsewhere: what goes into them (recorder.py), what the figures mean (figures.py, eval).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.records import marked, strict_json

METRICS, EVALUATIONS = "metrics.jsonl", "eval.jsonl"


class MetricsFile:
    """A file of lines of a run, cut back to `step` when opened: lines of later steps and torn lines are removed."""

    def __init__(self, folder: Path, step: int, name: str = METRICS) -> None:
        self.path = folder / name
        cut_back(self.path, step)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one object; it is in the file when this returns."""
        self._file.write(as_line(entry))
        self._file.flush()

    def sync(self) -> None:
        """Make what was written survive a power loss; called before each checkpoint."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's metrics; those that a crash tore are left out."""
    return read_lines(folder / METRICS)


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's evaluations, oldest first."""
    return read_lines(folder / EVALUATIONS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file, one a line, that have a step; torn lines are left out, a missing file has none."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
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


def cut_back(path: Path, step: int) -> None:
    """Remove lines of later steps and torn lines from a file, which is made where it is missing."""
    kept = [line for line in read_lines(path) if line["step"] <= step]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(map(as_line, kept)), encoding="utf-8")
    temporary.replace(path)


def as_line(entry: Mapping[str, Any]) -> str:
    """One object as it stands in such a file; what is not finite is null, and named in `not_finite`."""
    return strict_json(marked(entry)) + "\n"
