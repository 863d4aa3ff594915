"""Several datasets that are read as one.

Here: the mixture as it is opened, its version.
Elsewhere: weights (mix.py), which dataset a position takes (course.py), reading them (mixed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import blake3

from shardkit.errors import SpecError
from shardkit.read.mix import check_weights

if TYPE_CHECKING:
    from shardkit.read.dataset import Dataset

LABEL = b"shardkit mixture 1\0"


class Mixture:
    """Datasets in a fixed order, with weights or without: then they are read in proportion to their sizes.

    `version` is BLAKE3-256 over the datasets' versions: the same datasets at the same versions, in this order.
    """

    def __init__(self, datasets: Iterable[Dataset], weights: Iterable[float] | None = None) -> None:
        self.datasets: tuple[Dataset, ...] = tuple(datasets)
        given: tuple[object, ...] = self.datasets
        other = [one for one in given if isinstance(one, Mixture) or not hasattr(one, "live")]
        if other:
            raise SpecError(f"{other[0]!r} is no open dataset; give Mixture what open_dataset(URL) returns for each")
        self.weights: tuple[float, ...] | None = None if weights is None else tuple(weights)
        if self.weights is not None:
            check_weights(self.weights)
        urls = [dataset.url for dataset in self.datasets]
        twice = sorted({url for url in urls if urls.count(url) > 1})
        if twice or not urls:
            raise SpecError(
                f"the mixture names {twice[0]} twice; give it once, with a larger weight"
                if twice
                else "a mixture without datasets; name at least one"
            )
        self.version: str = blake3.blake3(LABEL + "\n".join(d.version for d in self.datasets).encode()).hexdigest()

    @property
    def url(self) -> str:
        """The datasets' folders or URLs, without credentials, separated by blanks."""
        return " ".join(dataset.url for dataset in self.datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    def __repr__(self) -> str:
        return f"Mixture({list(self.datasets)!r}, weights={self.weights!r})"


def open_mixture(
    urls: Iterable[str | Path] | Mapping[str, float], open_one: Callable[[str | Path], Dataset]
) -> Mixture:
    """The datasets behind several URLs, or behind the keys of a mapping URL -> weight. Raises as `open_one` does."""
    weights = list(urls.values()) if isinstance(urls, Mapping) else None
    return Mixture([open_one(url) for url in urls], weights)
