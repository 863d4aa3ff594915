"""The normaliser of grid puzzles, as ARC publishes them: a rule to be found from examples.

Here: examples and tests as a conversation, grids as lines of digits.
Elsewhere: other questions and answers (instruct.py, choice.py).
"""

from __future__ import annotations

from typing import Any

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.sample import Message

COLOURS = range(10)


def from_grid_task(row: Columns) -> Content:
    """Columns `train` and `test`, lists of {input, output}: the examples, then every test's input with its output.

    A grid is a line a row, its colours 0 to 9 with blanks between. The first test is asked for with the examples, the
    others follow in turns of their own. Raises Refused (`missing-field`): a grid is ragged, empty, or no grid; a test
    has no output.
    """
    instruction = str(row.options["instruction"])
    examples = [
        f"Input {number}:\n{_grid(pair, 'input', where)}\n\nOutput {number}:\n{_grid(pair, 'output', where)}"
        for number, (where, pair) in enumerate(_pairs(row, "train"), 1)
    ]
    asked = "\n\n".join([instruction, *examples] if instruction else examples)
    messages: list[Message] = []
    for where, pair in _pairs(row, "test"):
        question = f"Input:\n{_grid(pair, 'input', where)}"
        messages.append(Message(role="user", content=question if messages else f"{asked}\n\n{question}"))
        messages.append(Message(role="assistant", content=_grid(pair, "output", where)))
    return Content(tuple(messages))


def _pairs(row: Columns, role: str) -> list[tuple[str, Any]]:
    return [(f"{row.column(role)} {at}", pair) for at, pair in enumerate(row.list_of(role))]


def _grid(pair: Any, side: str, where: str) -> str:
    lines = pair.get(side) if isinstance(pair, dict) else None
    if not isinstance(lines, list) or not lines or not all(isinstance(line, list) and line for line in lines):
        raise Refused("missing-field", f"{where}: {side} is no grid")
    if len({len(line) for line in lines}) != 1:
        raise Refused("missing-field", f"{where}: rows of {side} differ in length")
    if not all(type(cell) is int and cell in COLOURS for line in lines for cell in line):
        raise Refused("missing-field", f"{where}: {side} has more than the colours 0 to 9")
    return "\n".join(" ".join(map(str, line)) for line in lines)
