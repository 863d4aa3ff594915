"""Packs under torch's DataLoader and torchdata's StatefulDataLoader.

Here: a dataset for both.
Elsewhere: packing (shardkit), batches of single samples for torch (adapter.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import IterableDataset

from shardkit import PackedBatch, PackedLoader


class TorchPacks(IterableDataset[PackedBatch]):
    """A packed loader's batches without end, for torch's DataLoader (batch_size=None: they are batches already).

    Every worker packs lanes of its own; a batch's `.state` is of these. To save with torch's DataLoader keep the
    states of the last batches, one a worker, and give `load_state_dict` their list, here, before the next `for`;
    StatefulDataLoader keeps them by itself, and wants the same number of workers again.
    """

    def __init__(self, loader: PackedLoader) -> None:
        super().__init__()
        self.loader = loader

    def __iter__(self) -> Iterator[PackedBatch]:
        """This worker's batches from where its lanes stand."""
        return iter(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Where the lanes stand; in a worker its own ones."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on from this worker's state, or from the list of all. Raises StateConflict."""
        self.loader.load_state_dict(state)
