"""What the Hub's refusals and silences mean for the user, each with its next step.

Here: from an error of the store to one of a source.
Elsewhere: the requests (store.hub), which files and splits there are (layout.py, source.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from shardkit.errors import (
    FileMissing,
    ShardDamaged,
    ShardkitError,
    SourceChanged,
    SourceFailed,
    SourceUnavailable,
    SpecError,
    StorageFailed,
)
from shardkit.sources.hub.layout import Unknown
from shardkit.store.hub import HubDenied, HubMissing, HubStore, HubUnreachable

BAD_TOKEN = "Invalid credentials"
DISABLED = "Access to this resource is disabled"
MOST_NAMES = 30
EXPORT_BRANCH = "refs/convert/parquet"
"""Where the Hub keeps the parquet that it makes of a data set."""


class Asker(NamedTuple):
    """Who asks: the source's name, the data set's, the store, the address of its page."""

    name: str
    dataset: str
    store: HubStore
    page: str

    @contextmanager
    def asking(self, path: str = "") -> Iterator[None]:
        """Turn what the store raises into SourceUnavailable, SourceChanged, SpecError or SourceFailed."""
        found: ShardkitError
        try:
            yield
            return
        except HubDenied as denied:
            found = self._denied(denied)
        except HubMissing as missing:
            found = self._missing(missing.code, path)
        except FileMissing:
            found = self._missing("EntryNotFound", path)
        except ShardDamaged:
            found = file_changed(self.name, path, "it was replaced while it was read")
        except HubUnreachable:
            found = unreachable(self)
        except StorageFailed as failed:
            found = self._busy() if self.store.last_status == 429 else SourceFailed(f"source {self.name}: {failed}")
        raise found from None  # the store's own error may quote an address

    def _denied(self, denied: HubDenied) -> SourceUnavailable:
        if denied.code == "GatedRepo" and denied.status == 403:
            reason = "gated, and the token's user has not been let in"
            why = f"is gated, and your token's user has not been let in; accept its conditions at {self.page}"
        elif denied.code == "GatedRepo":
            reason = "gated"
            why = f"is gated; accept its conditions at {self.page}, then set HF_TOKEN to a token of that user"
        elif denied.said.startswith(BAD_TOKEN):
            reason = "the token is not known"
            why = "was refused because the Hub does not know the token; make a new one, or unset HF_TOKEN"
        elif denied.said.startswith(DISABLED):
            reason = "disabled"
            why = f"was disabled on the Hub; see {self.page} for why, and name another data set"
        else:
            reason = "missing, or private"
            why = f"does not exist on the Hub, or is private; check {self.page}, and set HF_TOKEN where it is yours"
        return SourceUnavailable(f"source {self.name}: {self.dataset} {why} (status {denied.status})", reason)

    def _missing(self, code: str, path: str) -> ShardkitError:
        if code == "RevisionNotFound":
            return SourceChanged(
                f"source {self.name}: {self.dataset} has no such revision (any more); give a branch, a tag or a commit "
                "that it has, and build with --update where there is a plan already"
            )
        if path:
            return file_changed(self.name, path, "it is gone")
        return SourceUnavailable(
            f"source {self.name}: {self.dataset} does not exist on the Hub (any more); check {self.page}, and name the "
            "data set that has taken its place",
            "missing",
        )

    def _busy(self) -> SourceFailed:
        return SourceFailed(
            f"source {self.name}: the Hub has had too many requests from here (status 429), and went on saying so; run "
            "the same command again in five minutes, or set HF_TOKEN, with which it takes more"
        )


def file_changed(name: str, path: str, how: str) -> SourceChanged:
    """A file is not the one that was pinned."""
    return SourceChanged(f"source {name}: {path} changed since planned ({how}); build with --update")


def offline(name: str, dataset: str, setting: str) -> SourceUnavailable:
    """The user forbids asking the Hub."""
    return SourceUnavailable(
        f"source {name}: {setting}, so {dataset} is not asked for; unset it, or give a local copy as a source of kind "
        "parquet, jsonl, json or csv",
        "offline",
    )


def unreachable(asker: Asker) -> SourceUnavailable:
    """There is no network."""
    return SourceUnavailable(
        f"source {asker.name}: {asker.page} cannot be reached; check the network and HF_ENDPOINT, or give a local copy "
        "as a source of kind parquet, jsonl, json or csv",
        "no answer",
    )


def has_script(asker: Asker, script: str, exported: Iterable[str]) -> SpecError:
    """The repository is a program; `exported` are configurations of which the Hub has made parquet."""
    names = listed(exported)
    there = (
        f"; or set `revision: refs/convert/parquet`, the Hub's own parquet of it (configs: {names})" if names else ""
    )
    return SpecError(
        f"source {asker.name}: {asker.dataset} is loaded by a program of its own, {script}, which is not run; look at "
        f"{asker.page}/tree/main and give the files themselves as `data_files`{there}"
    )


def is_empty(asker: Asker, seen: int) -> SpecError:
    """The repository holds no data."""
    what = f"{seen} files, none of them data" if seen else "no files"
    return SpecError(
        f"source {asker.name}: {asker.dataset} holds {what}; see {asker.page} for where its data went, and name the "
        "data set that has taken its place"
    )


def not_there(asker: Asker, unknown: Unknown) -> SpecError:
    """No such configuration or split."""
    wanted = f"no {unknown.what} {unknown.wanted!r}" if unknown.wanted else f"several {unknown.what}s and no default"
    return SpecError(
        f"source {asker.name}: {asker.dataset} has {wanted}; there are: {listed(unknown.known) or 'none'}; "
        f"give one of them as `{unknown.what}`"
    )


def no_match(asker: Asker, patterns: Iterable[str]) -> SpecError:
    """None of the files that the spec names is there."""
    return SpecError(
        f"source {asker.name}: {asker.dataset} has no file that matches {listed(patterns)}; look at "
        f"{asker.page}/tree/main, and correct `data_files` or `data_dir`"
    )


def listed(names: Iterable[str]) -> str:
    """Names in a sentence, not more than fit on a screen."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
