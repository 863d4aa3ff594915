"""Deduplication and decontamination: the room's door.

Here: the stages of a search, what it found, the version that leaves it out, near-duplicates as labels for splits.
Elsewhere: each stage: ngrams.py, fingerprints.py, table.py, clusters.py, omit.py; the page that shows it (report).

Of a cluster of near-duplicates the first sample in dataset order stays; those of sources that are held out come first,
and are not compared with benchmarks, which they are. Samples that hold a benchmark's row go first
and are in no cluster: another copy of one that is not recognised as such stays. Everything is a function of the
version, the options and the benchmarks; not of the number of processes, nor of how much is held in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shardkit.curate import text
from shardkit.curate.benchmarks import Opened, Unreachable, open_benchmarks
from shardkit.curate.card import has_card, write_card
from shardkit.curate.clusters import ClusterCounts, Nearness, find_clusters
from shardkit.curate.derive import ancestry
from shardkit.curate.fingerprints import HIT, Rows
from shardkit.curate.images import RADIUS
from shardkit.curate.ngrams import Counts, Grams, gather_grams
from shardkit.curate.omit import publish_without
from shardkit.curate.table import Table
from shardkit.curate.workers import Work, fingerprint_all
from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.spec import DedupOptions
from shardkit.store.layout import BUILD_FOLDER, StepRecord
from shardkit.store.publish import lock
from shardkit.store.reasons import CONTAMINATED, DUPLICATE, NEAR_DUPLICATE, OMISSION, WORDS, Omissions
from shardkit.store.recovery import clear_up
from shardkit.store.urls import require_dataset_folder

FOUND = np.dtype([("shard", "<u4"), *((name, OMISSION[name]) for name in OMISSION.names or ())])
"""OMISSION with the shard it belongs to."""

STEP = "dedup"
ROWS_AT_ONCE = 1 << 15

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done and how much there is."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found in a version. `omissions` is an array of FOUND in stored order.

    `compared` counts samples that were compared, `passed` those that have nothing of what is compared, `unreadable`
    those of others that have no record. `clusters` counts those of two samples and more. `opened` are the benchmarks,
    which can be read for as long as what they are pinned to is kept.
    """

    version: str
    options: DedupOptions
    omissions: Omissions
    benchmarks: tuple[Counts, ...]
    opened: Opened
    compared: int
    passed: int
    unreadable: int
    clusters: int
    counts: ClusterCounts

    def count(self, reason: str) -> int:
        """How many samples go for a reason."""
        return int(np.count_nonzero(self.omissions["reason"] == WORDS.index(reason)))

    def by_shard(self) -> dict[int, Omissions]:
        """The omissions of each shard, as OMISSION rows."""
        shards, starts = np.unique(self.omissions["shard"], return_index=True)
        stops = [*starts[1:].tolist(), len(self.omissions)][: len(shards)]
        plain = np.zeros(len(self.omissions), OMISSION)
        for name in OMISSION.names or ():
            plain[name] = self.omissions[name]
        parts = zip(shards.tolist(), starts.tolist(), stops, strict=True)
        return {shard: plain[start:stop] for shard, start, stop in parts}


class DedupResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of `dedup` ended. `samples` are those that the version has, `omitted` those that it leaves out newly.

    `unchanged`: nothing was found, or it was a dry run, so `version` is the one that was there.
    """

    dataset: str
    version: str
    parent: str | None
    samples: int
    omitted: int
    duplicates: int
    near_duplicates: int
    contaminated: dict[str, int]
    clusters: int
    compared: int
    passed: int
    unreadable: int
    crowded: int
    benchmarks: tuple[Counts, ...]
    unreachable: tuple[Unreachable, ...]
    unchanged: bool


def ignore(stage: str, done: int, total: int) -> None:
    """Show nothing."""


class How(NamedTuple):
    """How a search is run, which its result does not depend on: processes, who is told how far it has come.

    `pins` is where it is kept what benchmarks are pinned to; without, they are pinned anew.
    """

    workers: int = 1
    on_progress: Progress = ignore
    pins: Path | None = None


ALONE = How()


def dedup(root: str, options: DedupOptions, how: How = ALONE) -> DedupResult:
    """Find duplicates and contaminated samples of the dataset in a folder; publish the version that omits them.

    Killed anywhere and run again it ends with the same version. Raises SpecError (a URL), NotADataset, Locked,
    ShardDamaged, StorageFailed.
    """
    if "://" in root:
        raise SpecError(f"{root} is a URL; give the folder where its files lie, or --dry-run to look at what there is")
    folder = Path(root).absolute()
    require_dataset_folder(folder)
    with lock(folder):
        clear_up(folder)
        dataset = open_one(folder)
        found = find(dataset, options, folder / BUILD_FOLDER, how)
        if len(found.omissions):
            names = [counts.name for counts in found.benchmarks]
            publish_without(folder, dataset, found.by_shard(), names, step_of(found))
    made = open_one(folder)
    if not has_card(folder, made.version):
        write_card(folder, made)
    return result(made, found, parent=dataset.version if made.version != dataset.version else None)


def find(dataset: Dataset, options: DedupOptions, folder: Path, how: How = ALONE) -> Found:
    """What of a dataset is said twice or asked by a benchmark. Temporary files go to `folder` and are removed.

    Raises SpecError (a benchmark), ShardDamaged, StorageFailed.
    """
    grams, benchmarks, opened = _benchmarks(options, how)
    with _filled(Work(dataset, options, grams, folder), how) as filled:
        roots, counts = find_clusters(filled.table, options, lambda at, of: how.on_progress("comparing", at, of))
        near = _near(filled.table, options, roots)
    hits = np.concatenate([*filled.hits, np.zeros(0, HIT)])
    omissions = np.concatenate((near, _contaminated(hits)))
    return Found(
        version=dataset.version,
        options=options,
        omissions=omissions[np.lexsort((omissions["ordinal"], omissions["shard"]))],
        benchmarks=benchmarks,
        opened=opened,
        compared=filled.rows,
        passed=filled.passed,
        unreadable=filled.unreadable,
        clusters=len(np.unique(roots[roots != np.arange(len(roots))])),
        counts=counts,
    )


def near_labels(dataset: Dataset, options: DedupOptions | None = None, how: How = ALONE) -> dict[tuple[int, int], str]:
    """(shard, stored ordinal) -> the key of the first of its cluster, of every sample that is near another.

    What must stay on one side of a split has the same label. Memory: about 200 bytes a sample that is near another.
    Raises ShardDamaged, StorageFailed.
    """
    options = msgspec.structs.replace(options or DedupOptions(), against=())
    labels: dict[tuple[int, int], str] = {}
    with scratch_folder() as folder, _filled(Work(dataset, options, None, folder), how) as filled:
        roots = find_clusters(filled.table, options)[0].astype(np.int64)
        together = np.flatnonzero(np.bincount(roots, minlength=len(roots))[roots] > 1)
        for start in range(0, len(together), ROWS_AT_ONCE):
            numbers = together[start : start + ROWS_AT_ONCE]
            firsts, back = np.unique(roots[numbers], return_inverse=True)
            rows, keys = filled.table.take(numbers), filled.table.take(firsts)["key"][back].tolist()
            places = zip(rows["shard"].tolist(), rows["ordinal"].tolist(), strict=True)
            labels |= {place: f"{high:016x}{low:016x}" for place, (high, low) in zip(places, keys, strict=True)}
    return labels


def result(dataset: Dataset, found: Found, parent: str | None = None) -> DedupResult:
    """The result of a search; `dataset` is the version that it left, `parent` the one that was searched, if another."""
    contaminated = found.omissions[found.omissions["reason"] == WORDS.index(CONTAMINATED)]["of_shard"]
    names = enumerate(counts.name for counts in found.benchmarks)
    return DedupResult(
        dataset=dataset.url,
        version=dataset.version,
        parent=parent or dataset.manifest.parent,
        samples=len(dataset),
        omitted=len(found.omissions),
        duplicates=found.count(DUPLICATE),
        near_duplicates=found.count(NEAR_DUPLICATE),
        contaminated={name: int(np.count_nonzero(contaminated == at)) for at, name in names},
        clusters=found.clusters,
        compared=found.compared,
        passed=found.passed,
        unreadable=found.unreadable,
        crowded=found.counts.crowded,
        benchmarks=found.benchmarks,
        unreachable=found.opened.unreachable,
        unchanged=parent is None,
    )


def step_of(found: Found) -> StepRecord:
    """What was done, for the record of a version: nothing in it depends on where or when."""
    rows = {one.name: one.rows for one in found.benchmarks}
    return StepRecord(name=STEP, options=_record(found.options, found.opened, rows))


def is_deduped(dataset: Dataset, options: DedupOptions, opened: Opened) -> bool:
    """Whether just these options and benchmarks have been gone through since the dataset was built."""
    for _, manifest in ancestry(dataset.store, dataset.version, dataset.manifest):
        if manifest.step is None:
            return False
        if manifest.step.name == STEP:
            named = manifest.step.options.get("against", ())
            rows = {one.get("name"): one.get("rows") for one in named}
            if manifest.step.options == _record(options, opened, rows):
                return True
    return False


def _record(options: DedupOptions, opened: Opened, rows: Mapping[str, int]) -> dict[str, Any]:
    record: dict[str, Any] = {"compare": sorted(options.compare)}
    if "text" in options.compare:
        record |= {"threshold": options.threshold, "text": text.method(options.threshold)}
    if "images" in options.compare:
        record |= {"images": f"pHash 64, radius {RADIUS}"}
    if opened.found:
        told = [
            {"name": one.name, "digest": one.digest, "rows": rows.get(one.name), **one.origin} for one in opened.found
        ]
        record |= {"against": told, "run_words": options.run_words}
    if opened.unreachable:
        record |= {"unreachable": [msgspec.to_builtins(one) for one in opened.unreachable]}
    return record


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files where the dataset must not be written to ($TMPDIR, or the system's)."""
    with tempfile.TemporaryDirectory(prefix="shardkit-dedup-") as folder:
        yield Path(folder)


def open_one(url: str | Path, version: str | None = None) -> Dataset:
    """A dataset by its name. Raises as open_dataset does."""
    found = open_dataset(url, version)
    assert isinstance(found, Dataset), "one name opens one dataset"
    return found


class _Filled:
    """A sealed table, and what was counted while it was filled."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.hits: list[Rows] = []
        self.passed = self.unreadable = self.rows = 0


@contextmanager
def _filled(work: Work, how: How) -> Iterator[_Filled]:
    shards = len(work.dataset.manifest.shards)
    with Table(work.folder, len(work.dataset)) as table:
        filled = _Filled(table)
        for shard, batch in fingerprint_all(work, how.workers):
            how.on_progress("reading", shard, shards)
            table.append(batch)
            filled.hits.append(batch.hits)
            filled.passed += batch.passed
            filled.unreadable += batch.unreadable
        table.seal()
        filled.rows = table.rows
        how.on_progress("reading", shards, shards)
        yield filled


def _benchmarks(options: DedupOptions, how: How) -> tuple[Grams | None, tuple[Counts, ...], Opened]:
    if not options.against:
        return None, (), Opened((), ())
    how.on_progress("benchmarks", 0, len(options.against))
    with ExitStack() as stack:
        pins = how.pins or stack.enter_context(scratch_folder())
        opened = open_benchmarks(options.against, pins, options.skip_unreachable)
        return *gather_grams(opened.found, options.run_words), opened


def _near(table: Table, options: DedupOptions, roots: npt.NDArray[np.uint32]) -> Omissions:
    """The rows that are not the first of their cluster, and how near they are to it."""
    gone = np.flatnonzero(roots != np.arange(len(roots)))
    found = np.zeros(len(gone), FOUND)
    nearness = Nearness(table, options)
    for start in range(0, len(gone), ROWS_AT_ONCE):
        numbers = gone[start : start + ROWS_AT_ONCE]
        firsts, back = np.unique(roots[numbers].astype(np.int64), return_inverse=True)
        rows, kept = table.take(numbers), table.take(firsts)[back]
        part = found[start : start + len(numbers)]
        part["shard"], part["ordinal"] = rows["shard"], rows["ordinal"]
        part["of_shard"], part["of_ordinal"] = kept["shard"], kept["ordinal"]
        same = (rows["key"] == kept["key"]).all(axis=1)
        part["reason"] = np.where(same, WORDS.index(DUPLICATE), WORDS.index(NEAR_DUPLICATE))
        part["similarity"] = [
            1000 if equal else round(1000 * nearness.similarity(first, second))
            for equal, first, second in zip(same.tolist(), kept, rows, strict=True)
        ]
    return found


def _contaminated(hits: Rows) -> Omissions:
    found = np.zeros(len(hits), FOUND)
    found["shard"], found["ordinal"] = hits["shard"], hits["ordinal"]
    found["reason"], found["similarity"] = WORDS.index(CONTAMINATED), 1000
    found["of_shard"], found["of_ordinal"] = hits["benchmark"], hits["row"]
    return found
