"""Normalisers of conversations that were cut out of trees of messages (OpenAssistant).

Here: one path as messages; the replies to one message as a preference.
Elsewhere: building the trees from their rows (sources.trees).
"""

from __future__ import annotations

from shardkit.errors import Refused
from shardkit.records.normalize.chat import SPEAKERS
from shardkit.records.normalize.columns import ROWS, Columns, Content
from shardkit.records.normalize.dialogue import check_roles
from shardkit.records.normalize.ratings import Candidate, best_and_worse
from shardkit.records.sample import Message

TREE_ROLES = ("message_tree_id", "message_id", "parent_id", "deleted", "role")
"""Roles of the columns out of which trees are built."""

REPLIES = "replies"
"""The field in which a row gathered from a tree holds the replies to the last message of its path."""


def from_tree(row: Columns) -> Content:
    """A path of a tree, from its root to an answer: rows with `role` (prompter, assistant) and `text`."""
    messages = tuple(_message(one) for one in row.parts(ROWS))
    check_roles(messages)
    return Content(messages)


def from_ranked_replies(row: Columns) -> Content:
    """A path of a tree up to a prompt, and the `replies` to it, the best of which has the lowest `rank`.

    Replies without a rank do not count. The option `rejected` takes the `lowest` or the `next` one.
    """
    messages = tuple(_message(one) for one in row.parts(ROWS))
    check_roles(messages, "user")
    found = []
    for one in row.parts(REPLIES):
        rank = one.value("rank")
        if isinstance(rank, (int, float)) and not isinstance(rank, bool):
            found.append(Candidate((-float(rank),), one.said("text")))
    return Content(messages, best_and_worse(found, str(row.options["rejected"])))


def _message(row: Columns) -> Message:
    speaker = row.value("role")
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise Refused("bad-role", f"{row.column('role')}: neither prompter nor assistant")
    return Message(role=role, content=row.said("text"))
