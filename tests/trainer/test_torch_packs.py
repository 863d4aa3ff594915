"""Packs through torch's loaders: the same ones, and the rest exactly after a resume."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from shardkit import Cost, Item, Pack, PackedLoader, StateConflict, open_dataset, open_loader
from tests.read.made import make_dataset, numbered
from trainer.data.torch_packs import TorchPacks


def cost(item: Item) -> Cost:
    return Cost(tokens=20 + int(item.key[:4], 16) % 250)


def key(item: Item) -> str:
    return item.key


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    make_dataset(folder, numbered([90, 60], images=False))
    return folder


def opened(root: Path) -> PackedLoader:
    packing = Pack(tokens=600, candidates=6, lanes=8)
    return open_loader(open_dataset(root), pack=packing, cost=cost, finish=key, batch_size=2)


def listed(batches: Any) -> list[list[str]]:
    return [list(pack) for batch in batches for pack in batch]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_torch_gives_the_packs_of_one_process_and_goes_on_with_any_number_of_workers(root: Path, workers: int) -> None:
    whole = listed(islice(opened(root), 14))
    found = list(islice(DataLoader(TorchPacks(opened(root)), batch_size=None, num_workers=workers), 6))
    assert listed(found) == whole[:12]
    packs = TorchPacks(opened(root))
    packs.load_state_dict([batch.state for batch in found[-workers:]])
    assert listed(islice(DataLoader(packs, batch_size=None, num_workers=2), 8)) == whole[12:]


def test_stateful_loaders_resume_by_themselves(root: Path) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    whole = listed(islice(opened(root), 14))
    begun = stateful.StatefulDataLoader(TorchPacks(opened(root)), batch_size=None, num_workers=2)
    assert listed(islice(begun, 5)) == whole[:10]
    again = stateful.StatefulDataLoader(TorchPacks(opened(root)), batch_size=None, num_workers=2)
    again.load_state_dict(begun.state_dict())
    assert listed(islice(again, 9)) == whole[10:]


def test_the_state_of_one_worker_of_several_is_not_enough(root: Path) -> None:
    found = list(islice(DataLoader(TorchPacks(opened(root)), batch_size=None, num_workers=2), 2))
    with pytest.raises(StateConflict, match="hold 4 of 8 lanes"):
        TorchPacks(opened(root)).load_state_dict(found[-1].state)
