"""Normalisers of several answers with ratings or ranks: the best is chosen, a worse one rejected.

Here: completions of UltraFeedback, rows of HelpSteer gathered by their prompt, ranked answers of Nectar.
Elsewhere: two answers (preference.py), replies in a tree (tree.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content, escaped
from shardkit.records.normalize.dialogue import check_roles
from shardkit.records.normalize.preference import preferred, user_turn
from shardkit.records.normalize.transcripts import transcript
from shardkit.records.sample import Preference

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
"""What completions of UltraFeedback are rated for; some copies spell the first with a hyphen."""

_OTHER_SPEAKER = re.compile(r"\b(?:Human|Assistant):")


class Candidate(NamedTuple):
    """One answer and how good it is: more is better, the first number first."""

    score: tuple[float, ...]
    text: str


def from_rated_completions(row: Columns) -> Content:
    """Columns `instruction` and `completions`, as UltraFeedback has them: each with a `response` and `annotations`.

    An answer's score is the mean of its four ratings, which are numbers in text or `N/A`, which does not count;
    `overall_score` is not used, it was wrong in 2,628 rows. The option `rejected` takes the `lowest` or the `next` one.
    """
    found = [
        Candidate(score, escaped(completion.get("response"), "response"))
        for completion in row.list_of("completions")
        if isinstance(completion, dict) and (score := _mean_rating(completion.get("annotations"))) is not None
    ]
    return Content(user_turn(row.said("instruction")), best_and_worse(found, str(row.options["rejected"])))


def from_rated_responses(row: Columns) -> Content:
    """Rows gathered by `prompt`, each with a `response` and its `score` (a number, or true and false).

    Of equal scores the one with the larger sum of `tie_break_1` and `tie_break_2` is the better one. The option
    `rejected` takes the `lowest` or the `next` one.
    """
    rows = row.gathered()
    found = [Candidate(_score(one), one.said("response")) for one in rows]
    return Content(user_turn(rows[0].said("prompt")), best_and_worse(found, str(row.options["rejected"])))


def from_ranked_answers(row: Columns) -> Content:
    """Columns `prompt`, a transcript that ends with the user, and `answers`, each with `answer` and `rank` (1 is best).

    Answers in which the model goes on to speak for others (`Human:`) are left out, as are those without a rank.
    """
    messages = transcript(row.said("prompt"), row.column("prompt"))
    check_roles(messages, "user")
    found = []
    for answer in row.list_of("answers"):
        rank, text = (answer.get("rank"), answer.get("answer")) if isinstance(answer, dict) else (None, None)
        if not _is_number(rank) or (isinstance(text, str) and _OTHER_SPEAKER.search(text)):
            continue
        found.append(Candidate((-float(rank),), escaped(text, "answer")))
    return Content(messages, best_and_worse(found, str(row.options["rejected"])))


def best_and_worse(found: Sequence[Candidate], rejected: str = "lowest") -> Preference:
    """The best answer and one that is worse: the `lowest`, or the `next` below the best.

    Of equals the first in the row. Raises Refused (`no-preference`) where none is worse.
    """
    ordered = sorted(found, key=lambda candidate: [-number for number in candidate.score])
    worse = [candidate for candidate in ordered if candidate.score < ordered[0].score]
    if not worse:
        raise Refused("no-preference", f"of {len(found)} rated answers none is worse than another")
    wanted = worse[0].score if rejected == "next" else worse[-1].score
    return preferred(ordered[0].text, next(candidate.text for candidate in worse if candidate.score == wanted))


def _mean_rating(annotations: Any) -> tuple[float, ...] | None:
    if not isinstance(annotations, dict):
        return None
    ratings = []
    for aspect in ASPECTS:
        judged = annotations.get(aspect) or annotations.get(aspect.replace("_", "-"))
        rating = _number(judged.get("Rating")) if isinstance(judged, dict) else None
        if rating is not None:
            ratings.append(rating)
    return (sum(ratings) / len(ratings),) if ratings else None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def _score(row: Columns) -> tuple[float, ...]:
    score = row.value("score")
    if not isinstance(score, bool) and not _is_number(score):
        raise Refused("missing-field", f"{row.column('score')}: wanted a number")
    breaks = (row.value("tie_break_1"), row.value("tie_break_2"))
    return float(score), float(sum(number for number in breaks if _is_number(number)))
