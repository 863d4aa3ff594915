"""Datasets: by number, in stored order, by process, and never a byte that is not as it was written."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import NotADataset, ShardDamaged, ShardkitError, SpecError
from shardkit.read import table as table_module
from shardkit.read.dataset import Dataset, Item, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.serve import serve_folder
from shardkit.spec import Codec
from shardkit.store.layout import shard_path
from tests.read.made import image_sample, make_dataset, numbered, text_sample

OMITTED = {1: [0, 5, 19], 2: [0, 1, 2]}
SIZES = (21, 20, 3, 10)


@pytest.fixture(scope="module", params=["tar", "tar.zst"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_dataset(folder, numbered(SIZES), codec=request.param, omitted=OMITTED)
    return folder


@pytest.fixture(params=["folder", "url"])
def dataset(root: Path, request: pytest.FixtureRequest) -> Iterator[Dataset]:
    if request.param == "folder":
        yield open_dataset(root)
        return
    with serve_folder(root) as server:
        yield open_dataset(server.url)


def wanted_ids() -> list[str]:
    shards = numbered(SIZES)
    return [
        prepared.sample.id
        for shard, samples in enumerate(shards)
        for ordinal, prepared in enumerate(samples)
        if ordinal not in OMITTED.get(shard, ())
    ]


def test_items_by_number_and_in_stored_order_are_what_was_written(dataset: Dataset) -> None:
    written = {prepared.sample.id: prepared for samples in numbered(SIZES) for prepared in samples}
    items = list(dataset)
    assert [item.sample.id for item in items] == wanted_ids()
    assert len(dataset) == len(items)
    for index, item in enumerate(items):
        assert dataset[index] == item == dataset[index - len(dataset)]
        prepared = written[item.sample.id]
        assert item.sample == prepared.sample
        assert {name: bytes(data) for name, data in item.members.items() if name != "json"} == {
            member.name: member.data for member in prepared.members
        }
    assert list(dataset.sources()) == [item.sample.source for item in items]


def test_number_outside_of_the_dataset_is_an_index_error(dataset: Dataset) -> None:
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=str(len(dataset))):
            dataset[index]


def test_large_datasets_use_tables_of_single_blocks(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(dataset)
    monkeypatch.setattr(table_module, "INDEX_BYTES", 3000)
    small = pickle.loads(pickle.dumps(dataset))
    assert not small.tables.whole
    assert list(small) == items
    assert [small[index] for index in range(len(small))] == items
    loader = open_loader(small, batch_size=5, tail="pad")
    assert {item.key for batch in loader for item in batch} == {item.key for item in items}


def test_dataset_and_items_survive_pickling(dataset: Dataset) -> None:
    copy = pickle.loads(pickle.dumps(dataset))
    assert list(copy) == list(dataset)
    items = list(dataset)
    copies = pickle.loads(pickle.dumps(items))
    assert copies == items
    assert [item.sample for item in copies] == [item.sample for item in items]
    assert [item.members for item in copies] == [item.members for item in items]
    assert len(pickle.dumps(items[0])) < items[0].size_bytes + 600


def keys_of(dataset: Dataset) -> list[str]:
    return [item.key for item in dataset]


def test_dataset_is_read_in_another_process(dataset: Dataset) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(keys_of, (dataset,)) == keys_of(dataset)


def test_pinned_version_stays_when_the_current_one_moves(tmp_path: Path) -> None:
    first = make_dataset(tmp_path, numbered([5], images=False))
    second = make_dataset(tmp_path, numbered([5, 6], images=False))
    assert first != second
    assert open_dataset(tmp_path).version == second
    pinned = open_dataset(tmp_path, version=first)
    assert (pinned.version, len(pinned)) == (first, 5)
    with pytest.raises(NotADataset, match="no version"):
        open_dataset(tmp_path, version="0" * 64)


def test_verify_finds_nothing_in_a_good_dataset(dataset: Dataset) -> None:
    assert dataset.verify().damages == ()


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NotADataset, match="is no dataset"):
            open_dataset(path)
    with serve_folder(tmp_path) as server, pytest.raises(NotADataset, match="is no dataset"):
        open_dataset(server.url)


@pytest.mark.parametrize(
    "given", ["", " ", None, 3, b"data", {"a", "b"}, iter(["a"]), [["a"], "b"], ["a", ""], {3: 1.0}]
)
def test_what_names_no_dataset_is_refused(given: Any) -> None:
    with pytest.raises(SpecError, match=r"wanted|give a folder"):
        open_dataset(given)


@pytest.mark.parametrize("index", ["key", slice(0, 2), 1.0, None])
def test_what_is_no_number_says_what_finds_it(dataset: Dataset, index: Any) -> None:
    with pytest.raises(TypeError, match=r"one whole number.*open_member"):
        dataset[index]


@pytest.fixture(scope="module", params=["tar", "tar.zst"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    codec: Codec = request.param
    make_dataset(folder, [[text_sample(1), image_sample(2, size=40)]], codec=codec, block=1)
    return folder


def shard_of(root: Path) -> Path:
    return root / shard_path(open_dataset(root).manifest.shards[0])


def yielded(dataset: Dataset, index: int) -> Item | None:
    try:
        item = dataset[index]
        assert item.sample is not None
    except ShardDamaged:
        return None
    return item


def test_no_flipped_bit_is_yielded_by_number(tiny: Path) -> None:
    """Every bit of the shard; what comes out is right or nothing does."""
    path, good = shard_of(tiny), list(open_dataset(tiny))
    data = path.read_bytes()
    covered = open_dataset(tiny).manifest.shards[0].codec == "tar.zst"
    found, dataset = 0, open_dataset(tiny)
    with path.open("r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                dataset.fetcher.forget()
                os.pwrite(file.fileno(), bytes([data[at] ^ 1 << bit]), at)
                items = [yielded(dataset, index) for index in range(2)]
                assert all(item is None or item == good[index] for index, item in enumerate(items))
                found += None in items
            os.pwrite(file.fileno(), data[at : at + 1], at)
    samples = len(data) if covered else len(data) - 1024
    assert found >= 8 * samples - (64 * 8 if covered else 0)
    assert list(open_dataset(tiny)) == good


def test_no_flipped_bit_is_yielded_in_stored_order(tmp_path: Path) -> None:
    """Every third byte, one bit of each: iteration stops with an error before the damaged sample."""
    make_dataset(tmp_path, [[text_sample(1), image_sample(2, size=40)]], block=2)
    path, good, dataset = shard_of(tmp_path), list(open_dataset(tmp_path)), open_dataset(tmp_path)
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for at in range(0, len(data) - 1024, 3):
            os.pwrite(file.fileno(), bytes([data[at] ^ 1 << at % 8]), at)
            found = []
            with pytest.raises(ShardDamaged, match="do not have the digest"):
                for item in dataset:
                    found.append(item)
            assert found == good[: at >= good[0].size_bytes]
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert list(dataset) == good


def test_no_cut_shard_is_read_beyond_its_end(tiny: Path) -> None:
    path, good = shard_of(tiny), list(open_dataset(tiny))
    data = path.read_bytes()
    dataset = open_dataset(tiny)
    try:
        for length in range(len(data) - 1, -1, -1):
            os.truncate(path, length)
            dataset.fetcher.forget()
            for index in range(2):
                item = yielded(dataset, index)
                assert item is None or item == good[index]
        assert yielded(dataset, 0) is None
        with pytest.raises(ShardDamaged):
            list(dataset)
    finally:
        path.write_bytes(data)


def test_missing_shard_and_index_are_errors(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([4], images=False))
    shard_of(tmp_path).unlink()
    with pytest.raises(ShardDamaged, match="missing"):
        open_dataset(tmp_path)[0]
    for path in (tmp_path / "indexes").rglob("*.idx"):
        path.unlink()
    with pytest.raises(ShardDamaged, match="missing"):
        open_dataset(tmp_path)[0]


def test_no_flipped_bit_of_an_index_changes_what_is_read(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([4]))
    (path,) = (tmp_path / "indexes").rglob("*.idx")
    good, data = list(open_dataset(tmp_path)), path.read_bytes()
    for bit in range(0, 8 * len(data), 7):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(ShardkitError):
            list(open_dataset(tmp_path))
    path.write_bytes(data)
    assert list(open_dataset(tmp_path)) == good
