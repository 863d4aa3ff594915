"""Trees of messages, one row a message, as OpenAssistant publishes them.

Here: from the rows of one tree to its conversations, or to its prompts with the replies to each.
Elsewhere: which rows are of one tree (gather.py), what conversations become (records.normalize.tree).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from shardkit.records.normalize.chat import SPEAKERS
from shardkit.records.normalize.columns import ROWS, field
from shardkit.records.normalize.tree import REPLIES
from shardkit.records.row import Row
from shardkit.sources.base import BadRow, Passed
from shardkit.spec import SourceSpec

Name = str | int
ROOTS = ("", None)
"""What a message without a parent has in its place."""


class TreeColumns(NamedTuple):
    """The columns out of which a tree is built."""

    message_id: str
    parent_id: str
    deleted: str
    role: str

    @classmethod
    def of(cls, spec: SourceSpec) -> TreeColumns:
        """As the source's `columns` map them, else by their own names."""
        return cls(*(spec.columns.get(name, name) for name in cls._fields))


class Tree(NamedTuple):
    """The messages that can be reached from a root through messages that are not deleted, parents before children.

    `parents` has None for a root, `children` are in the order of the rows.
    """

    rows: dict[Name, Row]
    parents: dict[Name, Name | None]
    children: dict[Name, list[Name]]

    def path(self, name: Name) -> list[Name]:
        """The messages from the root to this one."""
        path: list[Name] = []
        here: Name | None = name
        while here is not None:
            path.append(here)
            here = self.parents[here]
        return path[::-1]


def tree_rows(rows: Sequence[Row], columns: TreeColumns, *, siblings: bool = False) -> list[Row | BadRow | Passed]:
    """The conversations in the rows of one tree: each from the root to an answer below which there is no other.

    With `siblings`, a row for each prompt that has several answers instead. A message whose id is absent or taken, or
    whose parent is not in the tree, is refused. Deleted messages, all below them, and messages that are in none of the
    rows made are counted as passed over.
    """
    by_id, refused = _by_id(rows, columns)
    tree = _reached(by_id, columns)
    answers = [name for name, row in tree.rows.items() if _is_answer(row, columns)]
    made = _prompts(tree, answers) if siblings else _conversations(tree, answers)
    used = {name for names, replies in made for name in (*names, *replies)}
    outputs: list[Row | BadRow | Passed] = [*refused, *(_row(tree, *one) for one in made)]
    passed = len(rows) - len(refused) - len(used)
    return outputs + ([Passed(position=rows[-1].position, count=passed)] if passed else [])


def _by_id(rows: Sequence[Row], columns: TreeColumns) -> tuple[dict[Name, Row], list[BadRow]]:
    by_id: dict[Name, Row] = {}
    refused: list[BadRow] = []
    for row in rows:
        name = field(row.fields, columns.message_id)
        if not isinstance(name, (str, int)) or name in by_id:
            detail = f"{columns.message_id}: absent, or there already"
            refused.append(BadRow(position=row.position, reason="schema", detail=detail))
        else:
            by_id[name] = row
    for row in by_id.values():
        parent = field(row.fields, columns.parent_id)
        if parent not in ROOTS and not (isinstance(parent, (str, int)) and parent in by_id):
            refused.append(BadRow(position=row.position, reason="no-parent", detail=columns.parent_id))
    return by_id, refused


def _reached(by_id: dict[Name, Row], columns: TreeColumns) -> Tree:
    """Without recursion: a tree may be as deep as it has rows. What goes round in a circle is never reached."""
    below: defaultdict[Name | None, list[Name]] = defaultdict(list)
    for name, row in by_id.items():
        parent: Any = field(row.fields, columns.parent_id)
        if field(row.fields, columns.deleted) is not True and isinstance(parent, (str, int, type(None))):
            below[None if parent in ROOTS else parent].append(name)
    tree = Tree({}, {}, {})
    waiting: list[tuple[Name, Name | None]] = [(name, None) for name in reversed(below[None])]
    while waiting:
        name, parent = waiting.pop()
        tree.rows[name], tree.parents[name], tree.children[name] = by_id[name], parent, below[name]
        waiting += [(child, name) for child in reversed(below[name])]
    return tree


def _conversations(tree: Tree, answers: Sequence[Name]) -> list[tuple[list[Name], list[Name]]]:
    """Paths to the answers below which there is no other answer."""
    followed: set[Name] = set()
    for name in answers:
        followed.update(tree.path(name)[:-1])
    return [(tree.path(name), []) for name in answers if name not in followed]


def _prompts(tree: Tree, answers: Sequence[Name]) -> list[tuple[list[Name], list[Name]]]:
    """Paths to the prompts that have several answers, and these."""
    answered = set(answers)
    replies = {
        name: [child for child in children if child in answered]
        for name, children in tree.children.items()
        if name not in answered
    }
    return [(tree.path(name), found) for name, found in replies.items() if len(found) > 1]


def _row(tree: Tree, path: list[Name], replies: list[Name]) -> Row:
    """One row, at the position and with the fields of the last message of its path."""
    last = tree.rows[path[-1]]
    fields = {**last.fields, ROWS: [tree.rows[name].fields for name in path]}
    if replies:
        fields[REPLIES] = [tree.rows[name].fields for name in replies]
    return Row(position=last.position, fields=fields)


def _is_answer(row: Row, columns: TreeColumns) -> bool:
    role = field(row.fields, columns.role)
    return isinstance(role, str) and SPEAKERS.get(role) == "assistant"
