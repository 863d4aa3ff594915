"""Texts of plain rows: JSON objects of which nothing is known.

Here: which of their fields are texts.
Elsewhere: rows that a normaliser knows (pinned.py), files of them (benchmarks.py).
"""

from __future__ import annotations

from typing import Any

NO_TEXT = frozenset(
    {"id", "uuid", "url", "source", "license", "licence", "version", "split", "subset", "task_id", "canary", "index"}
)
"""Fields of rows that say nothing of what is asked."""


def texts_of(value: Any) -> list[str]:
    """The texts in a row: each string, and each list of strings as one; names of NO_TEXT are passed over."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            return texts_of("\n".join(value))
        return [text for part in value for text in texts_of(part)]
    if isinstance(value, dict):
        return [text for name, part in value.items() if name.lower() not in NO_TEXT for text in texts_of(part)]
    return []
