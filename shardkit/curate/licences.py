"""Licences of a dataset, summed up, and whether they fit a policy.

Here: the sums, the policy's verdict.
Elsewhere: classes of licences (spec.licences), counting (facts.py), the data card (card.py).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from shardkit.curate.facts import count_facts
from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset
from shardkit.spec.licences import ORDER, LicenceClass, classify, is_allowed


class LicenceSum(msgspec.Struct, frozen=True, kw_only=True):
    """One licence of one source: its class, live samples, bytes in the tar, whether the policy takes it."""

    licence: str
    licence_class: LicenceClass
    source: str
    samples: int
    bytes: int
    allowed: bool = True


class LicenceReport(msgspec.Struct, frozen=True, kw_only=True):
    """The licences of a version, the strictest first."""

    dataset: str
    version: str
    licences: tuple[LicenceSum, ...]

    @property
    def refused(self) -> tuple[LicenceSum, ...]:
        """Those that the policy does not take."""
        return tuple(entry for entry in self.licences if not entry.allowed)

    def text(self) -> str:
        """A table for a terminal."""
        rows = [("licence", "class", "source", "samples", "bytes", "")]
        rows += [
            (
                entry.licence or "none given",
                entry.licence_class,
                entry.source,
                f"{entry.samples:,}",
                f"{entry.bytes:,}",
                "" if entry.allowed else "not allowed",
            )
            for entry in self.licences
        ]
        widths = [max(len(row[at]) for row in rows) for at in range(6)]
        return "\n".join(
            "  ".join(
                word.rjust(width) if at in (3, 4) else word.ljust(width)
                for at, (word, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def sum_licences(dataset: Dataset, policy: Collection[str] | None = None) -> LicenceReport:
    """Sums by licence and source of a version's live samples, from the index alone.

    `policy` names the classes and single licences that are allowed (none: all are).
    Raises SpecError (a policy that names nothing known), ShardDamaged, StorageFailed.
    """
    counts = count_facts(dataset).by_licence
    allowed = None if policy is None else check_policy(policy, {licence for licence, _ in counts})
    entries = [
        LicenceSum(
            licence=licence,
            licence_class=classify(licence),
            source=source,
            samples=samples,
            bytes=size,
            allowed=allowed is None or is_allowed(licence, allowed),
        )
        for (licence, source), (samples, size) in counts.items()
    ]
    entries.sort(key=lambda entry: (-ORDER.index(entry.licence_class), entry.licence, entry.source))
    return LicenceReport(dataset=dataset.url, version=dataset.version, licences=tuple(entries))


def check_policy(policy: Collection[str], licences: Collection[str]) -> tuple[str, ...]:
    """The policy, sorted. Raises SpecError where it names no class, no known licence and none of the dataset's."""
    known = {licence.lower() for licence in licences} | set(ORDER)
    for name in policy:
        if name.lower() not in known and classify(name) == "unknown":
            raise SpecError(
                f"the policy names {name!r}, which is no class ({', '.join(ORDER)}) and no licence of this dataset "
                f"({', '.join(sorted(licences)) or 'it has none'})"
            )
    return tuple(sorted(set(policy)))
