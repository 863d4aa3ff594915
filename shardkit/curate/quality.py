"""Quality of a category: how many samples are good, how long, how different, and whether that is enough.

Here: measures gathered sample by sample, gates.
Elsewhere: what makes a sample bad (checks.py), the report (validate.py).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter

import msgspec

from shardkit.curate.sketch import Distinct
from shardkit.errors import SpecError
from shardkit.records.sample import Sample, modality_set

MEASURES = ("validity", "distinct", "distinct_prompts", "distinct_answers", "samples", "mean_characters")
"""What a gate may ask for: all are better when larger."""


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and percentiles of a number per sample; percentiles are exact to 2%."""

    mean: float = 0.0
    p5: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    largest: float = 0.0


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Measures of one category. Shares are 0 to 1: `validity` of samples that are good, `modalities` of the good ones
    by their set, `distinct` of different samples among the good, of their prompts, of their answers.
    """

    samples: int
    validity: float
    modalities: dict[str, float] = {}
    characters: Lengths = Lengths()
    messages: Lengths = Lengths()
    bytes: Lengths = Lengths()
    distinct: float = 1.0
    distinct_prompts: float = 1.0
    distinct_answers: float = 1.0

    def measure(self, name: str) -> float:
        """A measure of MEASURES by its name."""
        return self.characters.mean if name == "mean_characters" else float(getattr(self, name))


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The least that a measure of every category must have."""

    measure: str
    least: float

    def broken(self, category: str, quality: Quality) -> str:
        """What is wrong with a category; empty where it passes."""
        found = quality.measure(self.measure)
        return f"{category}: {self.measure} is {found:.4g}, wanted {self.least:g}" if found < self.least else ""


def parse_gates(texts: list[str]) -> tuple[Gate, ...]:
    """Gates written as MEASURE=LEAST. Raises SpecError."""
    gates = []
    for text in texts:
        name, _, least = text.partition("=")
        try:
            gates.append(Gate(measure=name.strip(), least=float(least)))
        except ValueError:
            raise SpecError(f"gate {text!r}: wanted MEASURE=NUMBER such as validity=0.99") from None
        if gates[-1].measure not in MEASURES or not math.isfinite(gates[-1].least):
            raise SpecError(f"gate {text!r}: there are {', '.join(MEASURES)}")
    return tuple(gates)


class Gathering:
    """A category while its samples go by: a few megabytes, however many there are."""

    def __init__(self) -> None:
        self._samples = self._good = 0
        self._modalities: Counter[str] = Counter()
        self._numbers = {name: _Histogram() for name in ("characters", "messages", "bytes")}
        self._distinct = {name: Distinct() for name in ("distinct", "distinct_prompts", "distinct_answers")}
        self._answered = self._asked = 0

    def bad(self) -> None:
        """Count a sample that is not good."""
        self._samples += 1

    def good(self, sample: Sample, key: str, size: int) -> None:
        """Count a good sample of `size` bytes."""
        self._samples += 1
        self._good += 1
        self._modalities["+".join(sorted(modality_set(sample))) or "none"] += 1
        texts = [message.content for message in sample.messages]
        self._numbers["characters"].add(sum(map(len, texts)))
        self._numbers["messages"].add(len(texts))
        self._numbers["bytes"].add(size)
        self._distinct["distinct"].add(key)
        for message in sample.messages:
            if message.role == "user":
                self._asked += 1
                self._distinct["distinct_prompts"].add(message.content)
            elif message.role == "assistant":
                self._answered += 1
                self._distinct["distinct_answers"].add(message.content)

    def done(self) -> Quality:
        """The measures."""
        good = max(1, self._good)
        return Quality(
            samples=self._samples,
            validity=self._good / max(1, self._samples),
            modalities={name: count / good for name, count in sorted(self._modalities.items())},
            **{name: numbers.done() for name, numbers in self._numbers.items()},
            distinct=min(1.0, self._distinct["distinct"].count / good) if self._good else 1.0,
            distinct_prompts=_share(self._distinct["distinct_prompts"], self._asked),
            distinct_answers=_share(self._distinct["distinct_answers"], self._answered),
        )


def _share(distinct: Distinct, of: int) -> float:
    return min(1.0, distinct.count / of) if of else 1.0


class _Histogram:
    """Numbers counted in buckets that grow by 2%."""

    STEP = math.log(1.02)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._order: list[int] = []
        self._total, self._largest, self._number = 0, 0, 0

    def add(self, value: int) -> None:
        bucket = -1 if value <= 0 else int(math.log(value) / self.STEP)
        if bucket not in self._counts:
            insort(self._order, bucket)
        self._counts[bucket] += 1
        self._total, self._number, self._largest = self._total + value, self._number + 1, max(self._largest, value)

    def done(self) -> Lengths:
        if not self._number:
            return Lengths()
        sums, running = [], 0
        for bucket in self._order:
            running += self._counts[bucket]
            sums.append(running)

        def percentile(share: float) -> float:
            bucket = self._order[bisect_left(sums, share * self._number)]
            return 0.0 if bucket < 0 else float(min(self._largest, round(math.exp((bucket + 0.5) * self.STEP))))

        return Lengths(
            mean=self._total / self._number,
            p5=percentile(0.05),
            p50=percentile(0.5),
            p95=percentile(0.95),
            largest=float(self._largest),
        )
