"""Validation: every sample of a dataset, or of plain JSON lines, checked and added up.

Here: the report, its figures and examples.
Elsewhere: the checks (checks.py), measures and gates (quality.py), the page (report.validation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import msgspec

from shardkit.curate.checks import Checked, check_dataset, check_plain
from shardkit.curate.licences import check_policy
from shardkit.curate.quality import Gate, Gathering, Quality
from shardkit.errors import REASONS, SpecError
from shardkit.read.dataset import open_dataset
from shardkit.records.rules import find_personal, find_secrets, redact, texts_of, without_secrets
from shardkit.records.rules.language import identify
from shardkit.records.sample import Sample
from shardkit.spec import Rules
from shardkit.store.layout import POINTER_PATH

EXAMPLES = 5
EXCERPT = 300
REDACTED = "[redacted "
"""How what `redact` puts in place of a finding begins."""
DUPLICATE = "duplicate"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that is not good, and why. `key` is its key, or where its row lies; secrets in the text are hidden."""

    key: str
    detail: str = ""
    excerpt: str = ""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One reason: what it means, how many samples have it, some of them."""

    reason: str
    meaning: str
    samples: int
    examples: tuple[Example, ...]


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What a validation found.

    `found` counts secrets and personal data by kind where the rules keep them; `languages` what could be told.
    `broken_gates` says which categories are not good enough.
    """

    subject: str
    version: str = ""
    samples: int
    good: int
    faults: tuple[Fault, ...] = ()
    found: dict[str, int] = {}
    languages: dict[str, int] = {}
    categories: dict[str, Quality] = {}
    broken_gates: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all samples are good and all gates hold."""
        return self.good == self.samples and not self.broken_gates

    def text(self) -> str:
        """Lines for a terminal."""
        lines = [f"{self.subject}: {self.good:,} of {self.samples:,} samples are good"]
        for fault in self.faults:
            lines.append(f"  {fault.reason}: {fault.samples:,} ({fault.meaning})")
            lines += [f"    {example.key}  {example.detail}" for example in fault.examples[:2]]
        lines += [f"  found and kept: {kind}: {count:,}" for kind, count in self.found.items()]
        for name, quality in self.categories.items():
            lines.append(
                f"  {name}: {quality.samples:,} samples, {quality.validity:.1%} good, {quality.distinct:.1%} distinct, "
                f"{quality.characters.mean:,.0f} characters in the mean"
            )
        return "\n".join([*lines, *(f"  gate: {told}" for told in self.broken_gates)])


def ignore(done: int, total: int | None) -> None:
    """Show nothing."""


def validate(
    subject: str,
    rules: Rules,
    gates: tuple[Gate, ...] = (),
    on_progress: Callable[[int, int | None], None] = ignore,
) -> Validation:
    """Check every sample of a dataset (folder, URL or tars), of a file of JSON lines, or of a folder of them.

    A duplicate has the key of an earlier sample. Memory grows by 100 bytes a sample, for their keys.
    Raises SpecError (nothing there, no rows), ShardDamaged (run `verify`), StorageFailed.
    """
    version, total, samples = _open(subject, rules)
    tally = _Tally(rules)
    for number, checked in enumerate(samples, 1):
        tally.add(checked)
        on_progress(number, total)
    found = tally.done(subject, version, gates)
    if not found.samples:
        raise SpecError(f"{subject} has no rows: nothing was checked; give what holds samples")
    return found


def _open(subject: str, rules: Rules) -> tuple[str, int | None, Iterator[Checked]]:
    if _is_plain(subject):
        return "", None, check_plain(Path(subject), rules)
    dataset = open_dataset(subject)
    check_policy(rules.licences, {licence for entry in dataset.manifest.shards for licence in entry.licences})
    return dataset.version, len(dataset), check_dataset(dataset, rules)


def _is_plain(subject: str) -> bool:
    """Whether a name is that of a file of lines, or of a folder that is no dataset."""
    path = Path(subject)
    if "://" in subject or not path.exists():
        return False
    return not (path / POINTER_PATH).exists() if path.is_dir() else not path.name.endswith((".tar", ".tar.zst"))


class _Tally:
    """Sums while samples go by."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._samples = self._good = 0
        self._faults: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._found: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._categories: dict[str, Gathering] = {}
        self._keys: set[bytes] = set()

    def add(self, checked: Checked) -> None:
        """Count a sample."""
        self._samples += 1
        sample = checked.sample
        reason, detail = checked.reason, checked.detail
        if not reason and not self._is_new(checked.key):
            reason, detail = DUPLICATE, "an earlier sample has the same key"
        name = _category(sample.category) if sample else "unreadable"
        category = self._categories.setdefault(name, Gathering())
        if reason or sample is None:
            category.bad()
            self._fault(reason, detail, checked)
            return
        self._good += 1
        category.good(sample, checked.key, checked.size)
        self._look(sample)

    def done(self, subject: str, version: str, gates: tuple[Gate, ...]) -> Validation:
        """The report."""
        categories = {name: gathered.done() for name, gathered in sorted(self._categories.items())}
        broken = [gate.broken(name, quality) for gate in gates for name, quality in categories.items()]
        faults = [
            Fault(
                reason=reason,
                meaning=REASONS.get(reason, "an earlier sample has the same messages and media"),
                samples=count,
                examples=tuple(self._examples[reason]),
            )
            for reason, count in sorted(self._faults.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
        return Validation(
            subject=subject,
            version=version,
            samples=self._samples,
            good=self._good,
            faults=tuple(faults),
            found=dict(sorted(self._found.items())),
            languages=dict(sorted(self._languages.items(), key=lambda pair: (-pair[1], pair[0]))),
            categories=categories,
            broken_gates=tuple(told for told in broken if told),
        )

    def _is_new(self, key: str) -> bool:
        short = bytes.fromhex(key) if len(key) == 32 and set(key) <= set("0123456789abcdef") else key.encode()
        before = len(self._keys)
        self._keys.add(short)
        return len(self._keys) > before

    def _fault(self, reason: str, detail: str, checked: Checked) -> None:
        self._faults[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(Example(key=checked.key, detail=without_secrets(detail), excerpt=_excerpt(checked.sample)))

    def _look(self, sample: Sample) -> None:
        texts = texts_of(sample)
        for action, find in ((self._rules.secrets, find_secrets), (self._rules.personal, find_personal)):
            if action == "keep":
                self._found.update(finding.kind for text in texts for finding in find(text))
        if self._rules.languages:
            self._languages[identify("\n".join(texts)) or "not told"] += 1


_category = lru_cache(maxsize=4096)(without_secrets)


def _excerpt(sample: Sample | None) -> str:
    """A part of a sample's texts, without what must not be shown: where that is found, else the beginning."""
    text = "\n".join(texts_of(sample)) if sample else ""
    for find in (find_secrets, find_personal):
        text = redact(text, find(text))
    start = max(0, text.find(REDACTED) - EXCERPT // 2)
    cut = text[start : start + EXCERPT]
    return "…" * (start > 0) + cut + "…" * (len(text) > start + EXCERPT)
