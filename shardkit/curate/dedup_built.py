"""Deduplication as a part of a build: done once its lanes are complete, against benchmarks as they were pinned.

Here: pinning benchmarks before anything runs, and doing it where it is not done yet.
Elsewhere: the search (dedup.py), the build around it (build.py).
"""

from __future__ import annotations

from pathlib import Path

from shardkit.curate.benchmarks import Opened, open_benchmarks
from shardkit.curate.dedup import DedupResult, How, find, is_deduped, open_one, result, step_of
from shardkit.curate.omit import publish_without
from shardkit.spec import DedupOptions
from shardkit.store import fs
from shardkit.store.layout import BUILD_FOLDER
from shardkit.store.publish import lock
from shardkit.store.recovery import clear_up

PINS = "benchmarks"
"""The folder under .build with what benchmarks are pinned to."""


def pin_benchmarks(root: Path, options: DedupOptions, *, anew: bool) -> Opened:
    """The benchmarks of a build, pinned under its .build or found there; `anew` looks at all of them again.

    Before the lanes run, so that one that is not to be had is known at once. Raises as open_benchmarks, and Locked.
    """
    with lock(root):
        pins = _pins(root)
        if anew and pins.is_dir():
            fs.remove_tree(pins)
        return open_benchmarks(options.against, pins, options.skip_unreachable)


def dedup_built(root: Path, options: DedupOptions, how: How) -> DedupResult | None:
    """Publish the version of a complete build that leaves out what the options say; None where that is done already.

    A version is published even where nothing is found: it says what was looked for. Killed anywhere and run again it
    ends with the same version. Raises as `dedup`, and SourceFailed.
    """
    how = how._replace(pins=_pins(root))
    with lock(root):
        clear_up(root)
        dataset = open_one(root)
        if is_deduped(dataset, options, open_benchmarks(options.against, _pins(root), options.skip_unreachable)):
            return None
        found = find(dataset, options, root / BUILD_FOLDER, how)
        names = [counts.name for counts in found.benchmarks]
        publish_without(root, dataset, found.by_shard(), names, step_of(found))
    return result(open_one(root), found, parent=dataset.version)


def _pins(root: Path) -> Path:
    return root / BUILD_FOLDER / PINS
