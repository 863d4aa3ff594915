"""A build with what its spec asks for once all lanes are complete.

Here: `build`, which is `shardkit build` and `shardkit.build_dataset`.
Elsewhere: the build itself (build.run), near-duplicates and benchmarks (dedup_built.py), splits (split.py), cards
(card.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shardkit.build.progress import Done, Event, OnEvent, Warned
from shardkit.build.quotas import SampleCount
from shardkit.build.run import BuildResult, ignore
from shardkit.build.run import build as build_lanes
from shardkit.curate.card import has_card, write_card
from shardkit.curate.derive import ancestry
from shardkit.curate.split import STEP as SPLIT_STEP
from shardkit.curate.split import is_split, split_dataset
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.spec import BuildSpec, DedupOptions

if TYPE_CHECKING:
    from shardkit.curate.benchmarks import Opened


def build(
    spec: BuildSpec,
    *,
    out: Path,
    sample: SampleCount = None,
    workers: int = 1,
    update: bool = False,
    on_event: OnEvent = ignore,
) -> BuildResult:
    """Build the dataset of `spec` in the folder `out`, or go on with what is there.

    Then near-duplicates and rows of benchmarks are left out, and the rest is split, where the spec says so. The version
    that this ends with gets its data card.

    `sample`: at most so many samples from every source, or "default" for each source's own number. `workers`
    processes run lanes side by side; with 0 everything happens in this thread. The result does not depend on it.
    `update` lets a changed spec, or changed sources, make a new version that keeps the lanes that did not change.

    Raises SpecError, PlanConflict, Locked, StorageFailed, SourceFailed; PartlyDone where lanes stopped early: calling
    again goes on. Interrupt it any time, by any signal: calling again goes on, to the same version.
    """

    def show(event: Event) -> None:
        if not isinstance(event, Done):  # it names the version, which a split changes
            on_event(event)

    root = Path(out).absolute()
    if spec.dedup is not None and spec.dedup.against:
        for one in _pinned(root, spec.dedup, update).unreachable:
            on_event(Warned(message=f"nothing is compared with the benchmark {one.name}: {one.reason}"))
    result = build_lanes(spec, out=out, sample=sample, workers=workers, update=update, on_event=show)
    _tell_undone(open_dataset(out), spec, result, show)
    if spec.dedup is not None:
        result = _deduped(root, spec.dedup, workers, result)
    if spec.split is not None and not is_split(open_dataset(out), spec.split):
        figures = split_dataset(root, spec.split)
        result = msgspec.structs.replace(result, version=figures.version, unchanged=False)
    if not has_card(root, result.version):
        write_card(root, open_dataset(out))
    on_event(Done(**msgspec.structs.asdict(result)))
    return result


def _pinned(root: Path, options: DedupOptions, update: bool) -> Opened:
    from shardkit.curate.dedup_built import pin_benchmarks  # only here: it brings what decodes media

    return pin_benchmarks(root, options, anew=update)


def _deduped(root: Path, options: DedupOptions, workers: int, built: BuildResult) -> BuildResult:
    from shardkit.curate.dedup import How
    from shardkit.curate.dedup_built import dedup_built

    if dedup_built(root, options, How(workers=workers)) is None:
        return built
    dataset = open_dataset(root)
    totals = dataset.manifest.totals
    return msgspec.structs.replace(
        built, version=dataset.version, samples=totals.samples, omitted=totals.omitted, unchanged=False
    )


def _tell_undone(dataset: Dataset, spec: BuildSpec, result: BuildResult, show: OnEvent) -> None:
    """Say which steps of the version before are to be done again: an update begins anew from what was built."""
    if result.unchanged or dataset.manifest.parent is None:
        return
    earlier = (manifest for _, manifest in ancestry(dataset.store, dataset.version, dataset.manifest))
    next(earlier)  # the new version itself
    done: list[str] = []
    for manifest in earlier:
        if manifest.step is None:
            break
        done.insert(0, manifest.step.name)
    own = {SPLIT_STEP: spec.split, "dedup": spec.dedup}  # done by the build itself
    again = [name for name in dict.fromkeys(done) if own.get(name) is None]
    if again:
        steps = ", ".join(f"`shardkit {name}`" for name in again)
        show(Warned(message=f"the version before was made by {steps} too; this one is not: run that again"))
