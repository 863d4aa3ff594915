"""Answers that grow by a token at a time.

Here: taking the newest tokens, until each answer has ended.
Elsewhere: making the tokens (generate.py, fusion.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


def note_tokens(answers: list[list[int]], going: list[bool], chosen: Sequence[int], stop_ids: Collection[int]) -> bool:
    """Append each answer's newest token, unless it has ended or ends with it; whether any goes on."""
    for at, token in enumerate(chosen):
        going[at] = going[at] and token not in stop_ids
        if going[at]:
            answers[at].append(token)
    return any(going)
