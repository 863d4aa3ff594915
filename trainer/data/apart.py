"""Samples that are held out stay out of the training: what a run's filters and its datasets' splits say of that.

Here: refusing a filter for evaluation that takes what is trained on, telling of splits that nobody asked for.
Elsewhere: the filters' language (shardkit), which samples a share holds out (reading.py), reading them (eval).
"""

from __future__ import annotations

from collections.abc import Iterator

from shardkit import Dataset, Mixture, SpecError
from trainer.data.sources import Data
from trainer.spec import DataSpec

SPLIT = "split"


def check_apart(data: Data, spec: DataSpec, where: str | None) -> None:
    """Refuse held-out samples, those that the filter `where` takes, some of which are trained on. Raises SpecError.

    Every index is read once, as for any filter.
    """
    if not where:
        return
    both = f"{spec.where},{where}" if spec.where else where
    for dataset in _datasets(data):
        taken = dataset.count(both)
        if taken:
            raise SpecError(
                f"eval.where is {where!r} and data.where {spec.where!r}: {taken:,} samples of {dataset.url} would be "
                f"trained on and held out; let data.where leave them out, such as data.where=split=train beside "
                f"eval.where=split=val"
            )


def unasked_splits(data: Data, spec: DataSpec) -> Iterator[str]:
    """A warning for each dataset that is split and is read whole: its test samples would be trained on, too."""
    if spec.where and SPLIT in spec.where:
        return
    for dataset in _datasets(data):
        if len(dataset.splits) > 1:
            first = "train" if "train" in dataset.splits else dataset.splits[0]
            other = next(name for name in ("val", "validation", "test", *dataset.splits) if name in dataset.splits)
            yield (
                f"{dataset.url} is split into {', '.join(dataset.splits)}, and samples of all of them are trained on; "
                f"to keep them apart: --set data.where=split={first} --set eval.where=split={other} "
                f"--set data.held_out=0"
            )


def _datasets(data: Data) -> tuple[Dataset, ...]:
    return tuple(data.datasets) if isinstance(data, Mixture) else (data,)
