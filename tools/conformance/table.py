"""The table as Markdown and as JSON.

Here: a row a case, a column a tool, and how each tool was configured.
Elsewhere: the cells (verdict.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tools.conformance.process import Tool
from tools.conformance.verdict import LEGEND, Cell

Table = Mapping[str, Mapping[str, Cell]]


def as_markdown(table: Table, tools: Mapping[str, Tool | None]) -> str:
    """The table, then what the words mean and how every tool was configured."""
    names = [name for name, tool in tools.items() if tool is not None]
    lines = [f"| case | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for case, cells in table.items():
        lines.append(f"| {case} | {' | '.join(str(cells[name]) if name in cells else '' for name in names)} |")
    used = {word for cells in table.values() for cell in cells.values() for word in cell.trials}
    lines += ["", *(f"- *{word}*: {meaning}" for word, meaning in LEGEND.items() if word in used), ""]
    for name, tool in tools.items():
        about = "not installed" if tool is None else f"{tool.about['version']}: {tool.about['about']}"
        lines.append(f"- **{name}** {about}.")
    return "\n".join(lines)


def as_json(table: Table, tools: Mapping[str, Tool | None]) -> str:
    """The same as one object; every cell with the tool's own words of its first failure."""
    return json.dumps({"tools": {name: about_of(tool) for name, tool in tools.items()}, "cases": cells_of(table)})


def about_of(tool: Tool | None) -> dict[str, Any] | None:
    """Version, configuration and features of a tool; None where it is not installed."""
    return None if tool is None else {name: tool.about[name] for name in ("version", "about", "offers")}


def cells_of(table: Table) -> dict[str, dict[str, dict[str, Any]]]:
    """All cells as plain values."""
    return {case: {name: cell._asdict() for name, cell in cells.items()} for case, cells in table.items()}
