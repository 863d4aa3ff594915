"""Splits: every sample of a version in train, val or test, as a new version over the same shards.

Here: the plan of a split, its figures, publishing it.
Elsewhere: who belongs together (groups.py), the arithmetic (assign.py), filters that read one split (read.where).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from shardkit.curate.assign import I64, assign
from shardkit.curate.card import write_card
from shardkit.curate.derive import ancestry, derive
from shardkit.curate.groups import Groups, Labels, gather_groups
from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.find import keys_of, read_indexes
from shardkit.spec.curation import DEFAULT_GROUP, HELD_OUT, SplitOptions
from shardkit.store.layout import Manifest, StepRecord
from shardkit.store.manifest import SPLIT, read_split
from shardkit.store.publish import publish_split

STEP = "split"
Bools: TypeAlias = NDArray[np.bool_]
TOLERANCE = 0.01


class SplitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a split came to: samples of each split, groups, samples that kept the split of an earlier version.

    `largest_group` is samples of the largest group: shares cannot be met closer than it allows. `held_out` are samples
    of the split of that name, which the shares are not of. `absent` are fields that were to keep samples together and
    that no sample has.
    """

    dataset: str
    version: str
    samples: dict[str, int]
    groups: int
    largest_group: int
    kept: int
    held_out: int = 0
    absent: tuple[str, ...] = ()

    def text(self, wanted: Mapping[str, float]) -> str:
        """The figures as lines for a terminal."""
        total = max(1, sum(self.samples.values()))
        rows = [
            f"{name:<12} {count:>12,}  {count / total:7.2%}  (wanted {wanted[name]:.2%})"
            for name, count in self.samples.items()
        ]
        if self.held_out:
            rows.append(f"{HELD_OUT:<12} {self.held_out:>12,}  of sources that are held out, beside the shares")
        rows.append(f"{self.groups:,} groups, the largest of {self.largest_group:,}; {self.kept:,} samples kept theirs")
        if any(abs(count / total - wanted[name]) > TOLERANCE for name, count in self.samples.items()):
            rows.append("the shares are off by more than 1%: groups are large for so few samples")
        rows += [f"no sample has {name}: nothing was kept together by it" for name in self.absent]
        return "\n".join(rows)


class SplitPlan(NamedTuple):
    """A split worked out and not yet published: of every live sample in stored order, its split's number."""

    groups: Groups
    chosen: I64
    figures: SplitFigures


def split_dataset(folder: Path, options: SplitOptions, clusters: Labels | None = None) -> SplitFigures:
    """Publish the version of a dataset whose column `split` follows the options; its figures.

    `clusters` are near-duplicates that stay together; with `options.near` they are looked for. Samples that an
    ancestor split by the same ratios and seed keep their split, whatever was appended since. Samples of sources
    that are held out, and all that belong with them, have the split `held_out`. Deterministic; killed, it is simply run
    again.
    Raises SpecError (a URL, nothing to split), Locked, ShardDamaged, StorageFailed.
    """
    dataset = open_dataset(folder)
    plan = plan_split(dataset, options, clusters)
    names = (*options.ratios, HELD_OUT)
    columns = {shard: _words(names, plan, shard, entry.samples) for shard, entry in enumerate(dataset.manifest.shards)}
    version = derive(folder, dataset.version, lambda root: publish_split(root, columns), _step(options))
    write_card(folder, open_dataset(folder))
    return msgspec.structs.replace(plan.figures, version=version)


def plan_split(dataset: Dataset, options: SplitOptions, clusters: Labels | None = None) -> SplitPlan:
    """Work a split out; nothing is written. Raises as `split_dataset`."""
    if not len(dataset):
        raise SpecError(f"{dataset.url} has no samples to split")
    if clusters is None and options.near:
        from shardkit.curate.dedup import near_labels  # only here: it brings what decodes media

        clusters = near_labels(dataset)
    groups = gather_groups(dataset, options, clusters or {})
    kept = _kept(dataset, options, groups)
    apart = _held_out(dataset, groups)
    by_group = np.full(len(groups.sizes), len(options.ratios), dtype=np.int64)
    free, shares = ~apart, np.array([*options.ratios.values()])
    by_group[free] = assign(groups.hashes[free], groups.strata[free], groups.sizes[free], kept[free], shares)
    chosen = by_group[groups.group]
    *counts, held_out = np.bincount(chosen, minlength=len(options.ratios) + 1).tolist()
    figures = SplitFigures(
        dataset=dataset.url,
        version="",
        samples=dict(zip(options.ratios, counts, strict=True)),
        groups=len(groups.sizes),
        largest_group=int(groups.sizes.max()),
        kept=int(groups.sizes[free & (kept >= 0)].sum()),
        held_out=held_out,
        absent=tuple(name for name in groups.absent if name not in DEFAULT_GROUP),
    )
    return SplitPlan(groups, chosen, figures)


def _held_out(dataset: Dataset, groups: Groups) -> Bools:
    """Of each group, whether one of its samples is of a source that is held out."""
    manifest = dataset.manifest
    shards = np.array([entry.source in manifest.plan.held_out for entry in manifest.shards], dtype=bool)
    found = np.zeros(len(groups.sizes), dtype=bool)
    found[groups.group[shards[groups.shards]]] = True
    return found


def is_split(dataset: Dataset, options: SplitOptions) -> bool:
    """Whether a dataset's column `split` was made by just these options, whatever was done to it since."""
    own = [ref for ref in dataset.manifest.columns if ref.name == SPLIT]
    for _, manifest in ancestry(dataset.store, dataset.version, dataset.manifest):
        if not own or SPLIT not in {ref.name for ref in manifest.columns}:
            return False
        if manifest.step == _step(options):
            return own[0] in manifest.columns
    return False


def _step(options: SplitOptions) -> StepRecord:
    return StepRecord(name=STEP, options=msgspec.json.decode(msgspec.json.encode(options)))  # lists, as read back


def _words(names: tuple[str, ...], plan: SplitPlan, shard: int, samples: int) -> list[str]:
    """The splits of a shard's stored samples; omitted ones have none."""
    words = [""] * samples
    first, end = np.searchsorted(plan.groups.shards, (shard, shard + 1)).tolist()
    rows = slice(first, end)
    for ordinal, split in zip(plan.groups.ordinals[rows].tolist(), plan.chosen[rows].tolist(), strict=True):
        words[ordinal] = names[split]
    return words


def _kept(dataset: Dataset, options: SplitOptions, groups: Groups) -> I64:
    """The split that each group has in the newest ancestor that was split alike, or -1; its first such sample says."""
    kept = np.full(len(groups.sizes), -1, dtype=np.int64)
    earlier = _earlier(dataset, options)
    if not earlier:
        return kept
    keys = {shard: keys_of(page) for shard, _, page in read_indexes(dataset, np.unique(groups.shards).tolist())}
    places = zip(groups.shards.tolist(), groups.ordinals.tolist(), groups.group.tolist(), strict=True)
    for shard, ordinal, group in places:
        if kept[group] < 0:
            kept[group] = earlier.get(keys[shard][ordinal], -1)
    return kept


def _earlier(dataset: Dataset, options: SplitOptions) -> dict[str, int]:
    """Key -> split's number, as the newest ancestor says that has the sample and was split by these ratios and seed.

    What one version left out and a later one has again is found in those before.
    """
    numbers = {name: at for at, name in enumerate(options.ratios)}  # what was held out and is not any more has none
    found: dict[str, int] = {}
    for version, manifest in ancestry(dataset.store, dataset.version, dataset.manifest):
        if _split_alike(manifest, options) and (column := read_split(dataset.store, manifest)):
            old = Dataset(dataset.store, version, manifest, {})
            for shard, _, page in read_indexes(old, range(len(manifest.shards))):
                words, values = column.of_shard(shard, page.samples)
                for key, value in zip(keys_of(page), values.tolist(), strict=True):
                    if value and words[value] in numbers:
                        found.setdefault(key, numbers[words[value]])
    return found


def _split_alike(manifest: Manifest, options: SplitOptions) -> bool:
    step = manifest.step
    if step is None or step.name != STEP or all(ref.name != SPLIT for ref in manifest.columns):
        return False
    return step.options.get("ratios") == options.ratios and step.options.get("seed") == options.seed
