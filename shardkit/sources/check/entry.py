"""Comparing an entry of the catalog with its host.

Here: which host it is, repositories of git, and what the rows of any source show.
Elsewhere: the Hugging Face Hub (hub.py), what is told (found.py).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from shardkit.errors import SourceDamaged, SourceFailed, SourceUnavailable, SpecError, StorageFailed
from shardkit.sources.check.columns import compare_columns, seen_types
from shardkit.sources.check.found import Checked, compared, failed, summed, unchecked
from shardkit.sources.check.hub import check_hub
from shardkit.sources.git_command import remote_references
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, GitSource, HubSource
from shardkit.spec.catalog.entry import Entry
from shardkit.spec.catalog.resolve import check_sources

GONE = re.compile(r"not found|could not read Username|does not exist|Permission denied", re.IGNORECASE)
"""What git says where there is no such repository: GitHub asks strangers for a name, lest they learn what it hides."""


def check_all(wanted: Iterable[tuple[Entry, str]]) -> Iterator[Checked]:
    """Entries with their variants, one by one; a host that does not answer stops no other. Raises SpecError."""
    for entry, variant in wanted:
        try:
            yield check_entry(entry, variant)
        except (SourceFailed, StorageFailed) as error:
            yield failed(entry, str(error))


def check_entry(entry: Entry, variant: str = "") -> Checked:
    """What differs between an entry (or one of its variants) and its host today.

    Raises SpecError (no such variant), SourceFailed and StorageFailed (no network, no answer).
    """
    sources: dict[str, AnySource] = check_sources(entry, f"catalog entry {entry.name}")
    if variant and variant not in sources:
        known = ", ".join(filter(None, sources)) or "none"
        raise SpecError(f"the entry {entry.name} has no variant {variant!r}; there are: {known}")
    source = sources.get(variant)
    if source is None:
        return _unreadable(entry)
    return CHECKS.get(type(source), check_rows)(entry, source)


def check_rows(entry: Entry, spec: AnySource) -> Checked:
    """Whether a source of any kind opens, and the columns of its first rows."""
    source = open_source(spec, 0)
    try:
        with tempfile.TemporaryDirectory(prefix="shardkit-check-") as name:
            pinned = source.pin(Path(name))
            columns = seen_types(source, Path(name))
    except (SpecError, SourceUnavailable, SourceDamaged) as error:
        return summed(entry, "", [compared("state", entry.state, str(error))])
    findings = [
        compared("state", entry.state, entry.state),
        *compare_columns(entry.columns, columns, complete=bool(columns)),
        *(unchecked(fact, "its host does not tell") for fact in ("id", "licence", "rows")),
    ]
    return summed(entry, pinned.revision, findings)


def check_git(entry: Entry, spec: GitSource) -> Checked:
    """Whether the repository is there and has the revision. Git tells neither a new name nor the licence."""
    try:
        references = remote_references(spec.url, spec.name)
    except SourceFailed as error:
        if not GONE.search(str(error)):
            raise
        return summed(entry, "", [compared("state", entry.state, "no such repository, or a private one")])
    wanted = spec.revision or "HEAD"
    named = {f"refs/heads/{wanted}", f"refs/tags/{wanted}", wanted}
    commits = [commit for name, commit in references.items() if name in named or commit == wanted]
    findings = [
        compared("state", entry.state, entry.state if commits else f"no revision {wanted}"),
        *(unchecked(fact, "git does not tell") for fact in ("id", "licence")),
    ]
    return summed(entry, commits[0] if commits else "", findings)


def _unreadable(entry: Entry) -> Checked:
    """Of an entry without a source, what its page on the Hub says; where it has none, nothing."""
    if "/" in entry.id and not entry.kaggle and "huggingface.co" in entry.url:
        return check_hub(entry, None)
    return summed(entry, "", [unchecked("state", f"it lies on no host that can be asked: {entry.reason}")])


CHECKS: dict[type[AnySource], Callable[..., Checked]] = {
    HubSource: check_hub,
    GitSource: check_git,
}
"""Of kinds of sources whose hosts tell more than the rows do, what asks them."""
