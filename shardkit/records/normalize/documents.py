"""Normalisers of documents without a question.

Here: plain text.
Elsewhere: files of repositories (code.py).
"""

from __future__ import annotations

from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.sample import Message


def from_plain_text(row: Columns) -> Content:
    """Column `text`: text for continued pretraining, as one assistant message without a user turn.

    No question is invented, and a loss on assistant tokens alone still learns the text.
    """
    return Content((Message(role="assistant", content=row.said("text")),))
