"""What a reader's answer amounts to, and the cells of the table.

Here: judging one answer against what it should be, counting verdicts.
Elsewhere: making the answers (damage.py, foreign_tars.py, positions.py), the table (table.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tools.conformance.process import Answer

LEGEND = {
    "exact": "exactly the samples that should come, in the order in which they should come",
    "every sample once": "all of them, in another order",
    "noticed": "an error before any wrong sample was handed out",
    "refused": "the input was refused as a whole, or the hostile part of it passed over",
    "silent-wrong": "a sample was handed out that is not one of those written: altered, or without a field",
    "lost": "samples did not come and no error did",
    "repeated": "samples came twice",
    "uneven steps": "ranks got different numbers of batches, at which a job that synchronises them hangs",
    "no answer": "none within 20 seconds: it may still be trying",
    "crashed": "the process died",
    "could not run": "the case could not be set up for this tool; the reason is in the JSON",
    "not tried": "the tool has the feature; the case is not written for it",
    "not offered": "the tool has no such feature",
}


class Verdict(NamedTuple):
    """One trial: a word of LEGEND, and how many samples it was about (lost, repeated)."""

    word: str
    samples: int = 0


class Cell(NamedTuple):
    """A case on a tool: trials by verdict, samples by verdict, the first failure in the tool's own words."""

    trials: dict[str, int]
    samples: dict[str, int]
    words: str = ""

    def __str__(self) -> str:
        parts = []
        for word in LEGEND:
            count = self.trials.get(word, 0)
            if count and self.samples.get(word):
                parts.append(f"{word} {self.samples[word]:,} (in {count:,})")
            elif count:
                parts.append(word if word.startswith("not ") else f"{word} {count:,}")
        return ", ".join(parts)

    @property
    def good(self) -> bool:
        """Whether nothing wrong was handed out, nothing lost or repeated."""
        return all(word in GOOD for word in self.trials)


GOOD = ("exact", "noticed", "refused", "not offered")
NOT_TRIED = Cell({"not tried": 1}, {})
NOT_OFFERED = Cell({"not offered": 1}, {})


def count(trials: Iterable[tuple[Verdict, str]]) -> Cell:
    """Trials to a cell."""
    words: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    first = ""
    for verdict, said in trials:
        words[verdict.word] += 1
        if verdict.samples:
            samples[verdict.word] += verdict.samples
        first = first or said
    return Cell(dict(words), dict(samples), first)


def judge(answer: Answer, wanted: Sequence[Any]) -> Verdict:
    """One answer against the sequence that should have come. An error counts as noticed only where all was right."""
    if answer.died:
        return Verdict(answer.died)
    return judge_sequence(answer.seen, wanted, bool(answer.error))


def judge_sequence(
    seen: Sequence[Any], wanted: Sequence[Any], error: bool = False, before: Sequence[Any] = ()
) -> Verdict:
    """The same for a sequence of hashable samples; those that came `before` and are not wanted again are repeated."""
    found, should = Counter(_hashable(seen)), Counter(_hashable(wanted))
    known = should.keys() | set(_hashable(before))
    if any(one not in known for one in found):
        return Verdict("silent-wrong", sum(found[one] for one in found if one not in known))
    repeated, lost = (found - should).total(), (should - found).total()
    if repeated:
        return Verdict("repeated", repeated)
    if error:
        return Verdict("noticed")
    if lost:
        return Verdict("lost", lost)
    return Verdict("exact" if list(seen) == list(wanted) else "every sample once")


def _hashable(sequence: Sequence[Any]) -> list[Any]:
    return [tuple(one) if isinstance(one, list) else one for one in sequence]
