"""Which rows of a source are taken, and which belong together.

Here: the structs of `gather` and `where`.
Elsewhere: reading rows so (sources.gather, sources.trees).
"""

from __future__ import annotations

from collections.abc import Mapping

from shardkit.spec.base import Strict

Scalar = str | int | float | bool | None
Wanted = Mapping[str, Scalar | tuple[Scalar, ...]]
"""Values by column: one that a row must have there, or several of which it must have one."""


class Gather(Strict, frozen=True, kw_only=True):
    """Rows that become one, or several that are made of them all.

    `by` names a column or several: rows one after the other that are equal there become one row, whose fields are the
    first one's and `rows`, a list of the fields of each. `tree` builds trees of messages out of rows one after the
    other with the same `message_tree_id` (columns as OpenAssistant has them, or as `columns` maps them), and gives one
    row for each conversation, from its root to its last answer; with `siblings` one for each prompt with several
    answers. More than `max_rows` rows or `max_bytes` bytes that belong together are refused.
    """

    by: str | tuple[str, ...] = ()
    tree: bool = False
    siblings: bool = False
    max_rows: int = 1000
    max_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.tree == bool(self.by):
            raise ValueError("gather: give either `by`, the columns that rows share, or `tree: true`")
        if self.siblings and not self.tree:
            raise ValueError("gather: `siblings` needs `tree: true`")
        if self.max_rows < 1 or self.max_bytes < 1:
            raise ValueError("gather: max_rows and max_bytes must be at least 1")

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns in `by`."""
        return (self.by,) if isinstance(self.by, str) else self.by
