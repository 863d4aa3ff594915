"""JSON files beside a run that are written whole, again and again: run.json, held_out.json, chain.json, reference.json.

Here: replacing one.
Elsewhere: what stands in them (run.py, stages.py, objective.py), files of lines (metrics).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value into a file; whoever reads it meanwhile finds the old one or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
