"""Normalisers of programs: tasks with tests, commits, files of repositories, issues with a screenshot.

Here: one function each, from a row's columns to messages.
Elsewhere: pages and their code (media.py), where repositories' files come from (sources.git).
"""

from __future__ import annotations

import re
from typing import Any

from shardkit.errors import Refused
from shardkit.records.marks import escape_marks
from shardkit.records.normalize.columns import Columns, Content, escaped
from shardkit.records.normalize.dialogue import place_marks, turn_pair
from shardkit.records.sample import Message

_TICKS = re.compile(r"`{3,}")


def from_code_task(row: Columns) -> Content:
    """Columns `task` and `solution`, with `tests`, `setup` (each text or a list of lines) and `entry_point` if given.

    The option `tests` says where these go: `provenance`, or the user's `message` below the task. With the option
    `whole` the assistant repeats the task before the solution, where that only completes it (HumanEval).
    """
    task, solution = row.said("task"), row.said("solution")
    checks = {name: text for name in ("tests", "setup") if (text := _lines(row, name))}
    entry = row.optional("entry_point")
    provenance = checks | ({"entry_point": entry} if entry else {})
    asked = task
    if row.options["tests"] == "message" and "tests" in checks:
        asked = f"{task}\n\nThe code must pass these tests:\n\n{checks['tests']}"
    answer = escape_marks(row.text("task") + row.text("solution")) if row.options["whole"] else solution
    return Content(turn_pair(asked, answer), provenance=provenance)


def from_commit(row: Columns) -> Content:
    """Columns `subject`, `old_contents` (empty for a new file) and `new_contents`: the change asked for, and made.

    Files stand in fenced blocks, named by `old_file` or `new_file` where the row has them. A row whose file stays the
    same is refused (`filtered`).
    """
    subject, after = row.said("subject"), row.said("new_contents")
    before, old_file, new_file = (row.optional(name) for name in ("old_contents", "old_file", "new_file"))
    if before == after:
        raise Refused("filtered", "the commit leaves the file as it is")
    path = old_file or new_file
    asked = f"{subject}\n\n"
    if before:
        asked += (f"`{path}`:\n" if path else "") + fenced(before, path)
    else:
        asked += f"Write the new file `{path}`." if path else "Write the new file."
    commit = row.optional("commit")
    return Content(
        turn_pair(asked, fenced(after, new_file or path)),
        provenance={name: text for name, text in (("commit", commit), ("path", path)) if text},
    )


def from_repository_file(row: Columns) -> Content:
    """Columns `text` and `path`: a file's text as one assistant message, as plain text; its path in provenance."""
    path, licence = row.text("path"), row.value("licence_file")
    provenance = {"path": path} | ({"licence_file": licence} if isinstance(licence, str) and licence else {})
    return Content((Message(role="assistant", content=row.said("text")),), provenance=provenance)


def from_github_issue(row: Columns) -> Content:
    """Columns `title`, `body` (may be empty), `code` (text or a list) and `image`: an issue and the code it is about.

    The user shows the screenshot and tells title and body; the assistant gives the code, fenced. The issue's address
    from `url` is in provenance.
    """
    media = row.required_media("image")
    title, body, url = row.said("title"), row.optional("body"), row.optional("url")
    code = _lines(row, "code", "\n\n")
    if not code:
        raise Refused("missing-field", f"{row.column('code')}: the issue has no code")
    answer = code if code.lstrip().startswith("```") else fenced(code)
    asked = f"{title}\n\n{body}" if body else title
    return Content(place_marks(turn_pair(asked, answer), media), media=media, provenance={"url": url} if url else {})


def fenced(code: str, path: str = "") -> str:
    """Code as a Markdown block, with a fence longer than any in it; the language is the path's suffix."""
    fence = "`" * (max((len(run) for run in _TICKS.findall(code)), default=2) + 1)
    name = path.rpartition("/")[2]
    language = name.rpartition(".")[2] if "." in name[1:] else ""
    return f"{fence}{language}\n{code}{'' if code.endswith(chr(10)) else chr(10)}{fence}"


def _lines(row: Columns, role: str, between: str = "\n") -> str:
    """A column that is text or a list of texts, as one text; empty where it is absent."""
    value: Any = row.value(role)
    if not isinstance(value, list):
        return row.optional(role)
    return between.join(escaped(line, row.column(role)) for line in value)
