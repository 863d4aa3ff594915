"""Which datasets a run reads: one, or several mixed by weight; by options or by the run's spec.

Here: reading `--data`, opening, the versions that a resume asks for.
Elsewhere: mixing itself (shardkit), how a run reads (reading.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from shardkit import Dataset, Mixture, NotADataset, SpecError, open_dataset
from trainer.spec import DataSpec, SourceSpec

Data: TypeAlias = Dataset | Mixture

_WEIGHTED = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)=(.+)", re.DOTALL)


def choose_sources(data: str | Sequence[str], spec: DataSpec) -> tuple[SourceSpec, ...]:
    """What is to be read: `data`, one URL or several, a weight as a prefix (`0.7=URL`); without them the spec's.

    Raises SpecError where neither names a dataset.
    """
    given = [data] if isinstance(data, str) else list(data)
    sources = tuple(_parse(value) for value in given) or spec.datasets
    if not sources:
        raise SpecError("no dataset to read; give --data URL, or data.datasets in the run's spec")
    return sources


def open_data(sources: Sequence[SourceSpec], versions: str = "") -> Data:
    """The dataset, or the mixture of several: by their weights where any has one (others count 1), else by size.

    `versions` is what `versions_of` gave before: these are opened. Raises SpecError, NotADataset, StorageFailed.
    """
    pinned: list[str | None] = [*versions.split("+")] if versions else [None] * len(sources)
    if len(pinned) != len(sources):
        raise SpecError(
            f"the checkpoint was trained on {len(pinned)} datasets and {len(sources)} are given; give the same"
        )
    datasets = [_open(source.url, version) for source, version in zip(sources, pinned, strict=True)]
    if len(datasets) == 1:
        return datasets[0]
    weights = [source.weight for source in sources]
    if all(weight is None for weight in weights):
        return Mixture(datasets)
    return Mixture(datasets, [1.0 if weight is None else weight for weight in weights])


def versions_of(data: Data) -> str:
    """The versions of all datasets, in their order, joined by `+`."""
    return "+".join(dataset.version for dataset in (data.datasets if isinstance(data, Mixture) else (data,)))


def _open(url: str, version: str | None) -> Dataset:
    try:
        return open_dataset(url, version=version)
    except NotADataset as error:
        if version is None:
            raise
        raise NotADataset(
            f"{error}. The run's checkpoint was trained on that version: give a copy of it by --data, or begin anew "
            f"on another one with another --out"
        ) from None


def _parse(value: str) -> SourceSpec:
    found = _WEIGHTED.fullmatch(value)
    try:
        return SourceSpec(url=found[2], weight=float(found[1])) if found else SourceSpec(url=value)
    except ValueError as error:
        raise SpecError(f"--data {value}: {error}") from None
