"""What a comparison of an entry with its host found.

Here: the structs and their text.
Elsewhere: comparing (entry.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from shardkit.spec.catalog.entry import Entry

ORDER = ("state", "id", "gated", "licence", "configs", "splits", "rows", "columns", "normalizer")
"""Facts in the order in which they are told."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One fact as the entry has it and as it was found."""

    fact: str
    entry: str
    found: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that was looked at: it agrees where nothing is said, differs, or cannot be seen (`unchecked`: why)."""

    fact: str
    difference: Difference | None = None
    unchecked: str = ""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as compared. `revision` is the commit that was looked at; `agreed` facts are as the entry says.

    `unchecked` maps facts to why they were not looked at; `marked` are facts that the entry itself does not vouch for.
    `failed` says why nothing could be looked at.
    """

    name: str
    revision: str
    differences: tuple[Difference, ...]
    agreed: tuple[str, ...]
    unchecked: dict[str, str]
    marked: tuple[str, ...]
    notes: tuple[str, ...] = ()
    failed: str = ""

    def text(self) -> str:
        """The same as lines for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.failed:
            yield f"{self.name}: not checked: {self.failed}"
            return
        count = len(self.differences)
        verdict = f"{count} difference{'s' * (count != 1)}" if count else "as the entry says"
        yield f"{self.name}{f' at {self.revision[:12]}' if self.revision else ''}: {verdict}"
        for difference in self.differences:
            marked = " (marked as not verified)" if difference.fact in self.marked else ""
            yield f"  {difference.fact}: the entry says {difference.entry}; found {difference.found}{marked}"
        if self.agreed:
            yield f"  agrees: {', '.join(self.agreed)}"
        confirmed = [fact for fact in self.agreed if fact in self.marked]
        if confirmed:
            yield f"  verified by this, the marks can go: {', '.join(confirmed)}"
        for fact, why in self.unchecked.items():
            yield f"  not checked: {fact} ({why})"
        for note in self.notes:
            yield f"  note: {note}"


def failed(entry: Entry, why: str) -> Checked:
    """An entry whose host did not answer."""
    return msgspec.structs.replace(summed(entry, "", ()), failed=why)


def agreed(fact: str) -> Finding:
    """A fact that is as the entry says."""
    return Finding(fact=fact)


def unchecked(fact: str, why: str) -> Finding:
    """A fact that could not be looked at."""
    return Finding(fact=fact, unchecked=why)


def compared(fact: str, entry: str, found: str, *, same: bool | None = None) -> Finding:
    """A fact as the entry has it and as it was found; `same` where that is not plain equality."""
    if entry == found if same is None else same:
        return agreed(fact)
    return Finding(fact=fact, difference=Difference(fact=fact, entry=entry, found=found))


def summed(entry: Entry, revision: str, findings: Iterable[Finding], notes: Iterable[str] = ()) -> Checked:
    """All findings about one entry; a fact that differs in one place does not agree."""
    found = sorted(findings, key=lambda finding: ORDER.index(finding.fact))
    differences = tuple(finding.difference for finding in found if finding.difference)
    differing = {difference.fact for difference in differences}
    why = {finding.fact: finding.unchecked for finding in found if finding.unchecked and finding.fact not in differing}
    same = dict.fromkeys(finding.fact for finding in found if finding.fact not in differing | set(why))
    return Checked(
        name=entry.name,
        revision=revision,
        differences=differences,
        agreed=tuple(same),
        unchecked=why,
        marked=(*entry.unverified, *entry.doubtful),
        notes=tuple(notes),
    )
