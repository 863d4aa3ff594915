"""Comparing an entry of the catalog with its host.

Here: which host it is, and repositories of git.
Elsewhere: the Hugging Face Hub (hub.py), what is told (found.py).
"""

from __future__ import annotations

from collections.abc import Callable

from shardkit.errors import SourceFailed, SpecError
from shardkit.sources.check.found import Checked, compared, summed, unchecked
from shardkit.sources.check.hub import check_hub
from shardkit.sources.git_command import remote_references
from shardkit.spec import AnySource, GitSource, HubSource
from shardkit.spec.catalog.entry import Entry
from shardkit.spec.catalog.resolve import check_sources


def check_entry(entry: Entry, variant: str = "") -> Checked:
    """What differs between an entry (or one of its variants) and its host today.

    Raises SpecError (no such variant, a kind that cannot be compared), SourceFailed (no network, no answer).
    """
    sources: dict[str, AnySource] = check_sources(entry, f"catalog entry {entry.name}")
    if variant and variant not in sources:
        known = ", ".join(filter(None, sources)) or "none"
        raise SpecError(f"the entry {entry.name} has no variant {variant!r}; there are: {known}")
    source = sources.get(variant)
    if source is None:
        return _unreadable(entry)
    check = CHECKS.get(type(source))
    if check is None:
        raise SpecError(
            f"{entry.name} is a source of kind {entry.kind}, which cannot be compared with its host; build a few "
            f"samples: shardkit build {entry.name} --sample 5"
        )
    return check(entry, source)


def check_git(entry: Entry, spec: GitSource) -> Checked:
    """Whether the repository is there and has the revision. Git tells neither a new name nor the licence."""
    try:
        references = remote_references(spec.url, spec.name)
    except SourceFailed as error:
        return summed(entry, "", [compared("state", entry.state, str(error))])
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
"""Of each kind of source that can be compared, what does it."""
