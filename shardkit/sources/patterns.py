"""Which files a source takes: globs over relative paths.

Here: from glob to regular expression, and the include/exclude decision.
Elsewhere: walking folders (walk.py), trees of git (git.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from shardkit.errors import SpecError


def selector(include: Sequence[str], exclude: Sequence[str], name: str) -> Callable[[str], bool]:
    """A predicate over relative paths with `/`: some `include` matches and no `exclude` does.

    `*` and `?` stay within one part of a path, `**` crosses parts, `[…]` is a set. Raises SpecError (bad pattern).
    """
    wanted = [_compile(pattern, name) for pattern in include]
    unwanted = [_compile(pattern, name) for pattern in exclude]

    def selected(path: str) -> bool:
        return any(pattern.fullmatch(path) for pattern in wanted) and not any(
            pattern.fullmatch(path) for pattern in unwanted
        )

    return selected


def _compile(pattern: str, name: str) -> re.Pattern[str]:
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
        raise SpecError(f"source {name}: pattern {pattern!r} is not a glob over relative paths, such as **/*.py")
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except re.error:
        raise SpecError(f"source {name}: pattern {pattern!r} has an impossible set in brackets") from None


def _translate(pattern: str) -> str:
    parts = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", pattern, re.DOTALL):
        if token in _TOKENS:
            parts.append(_TOKENS[token])
        elif len(token) > 1:
            inside = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            parts.append("[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]")
        else:
            parts.append(re.escape(token))
    return "".join(parts)


_TOKENS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
