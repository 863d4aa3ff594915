"""Batches read from local spans: the same as samples read alone, and no damaged byte among them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from shardkit.errors import ShardDamaged, ShardkitError, StorageFailed
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.item import Item
from shardkit.read.loader import open_loader
from shardkit.read.spans import GROUP_BYTES, SMALL_BYTES, LocalSpans
from shardkit.store.layout import shard_path
from shardkit.store.urls import LocalStore
from tests.read.made import image_sample, make_dataset, text_sample

SIZES = [40, SMALL_BYTES + 900, 70_000, 200_000, GROUP_BYTES + 1000]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Texts, images of all sizes, and a shard of both."""
    root = tmp_path_factory.mktemp("spans")
    texts = [text_sample(number) for number in range(30)]
    images = [image_sample(100 + number, SIZES[number % len(SIZES)]) for number in range(20)]
    mixed = [image_sample(200 + n, 300) if n % 2 else text_sample(200 + n) for n in range(10)]
    make_dataset(root, [texts, images, mixed])
    return open_dataset(root)


def places_of(dataset: Dataset, ordinals: list[tuple[int, int]]):  # type: ignore[no-untyped-def]
    shards, numbers = (np.array(column, dtype=np.int64) for column in zip(*ordinals, strict=True))
    return dataset.fetcher.find(shards, numbers)


def alone(dataset: Dataset, shard: int, ordinal: int) -> Item:
    return dataset.fetcher.read(dataset.fetcher.find_one(shard, ordinal))


def test_a_batch_is_what_its_samples_are_alone(dataset: Dataset) -> None:
    chance = np.random.default_rng(0)
    stored = [(shard, n) for shard, entry in enumerate(dataset.manifest.shards) for n in range(entry.samples)]
    for _ in range(40):
        chosen = [stored[at] for at in chance.integers(0, len(stored), chance.integers(1, 40))]
        found = dataset.fetcher.read_many(places_of(dataset, chosen))
        wanted = [alone(dataset, *place) for place in chosen]
        assert found == wanted
        for item, other in zip(found, wanted, strict=True):
            assert isinstance(item, Item)
            assert item.members == other.members and list(item.members) == list(other.members)
            assert item.sample == other.sample and all(view.readonly for view in item.members.values())


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_flipped_byte_takes_one_sample_out_of_a_batch_and_says_which(tmp_path: Path, shard: int) -> None:
    texts = [text_sample(number) for number in range(4)]
    images = [image_sample(number, SIZES[number]) for number in range(4)]
    make_dataset(tmp_path, [texts, images, [texts[0], images[1], texts[2]]])
    dataset = open_dataset(tmp_path)
    samples = dataset.manifest.shards[shard].samples
    places = places_of(dataset, [(shard, number) for number in range(samples)])
    good = dataset.fetcher.read_many(places)
    path = tmp_path / shard_path(dataset.manifest.shards[shard])
    size = path.stat().st_size - 1024
    for at in range(0, size, max(1, size // 50)):
        byte = path.read_bytes()[at]
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes([byte ^ 1 << at % 8]), at)
            found = dataset.fetcher.read_many(places)
            os.pwrite(file.fileno(), bytes([byte]), at)
        wrong = [number for number in range(samples) if not isinstance(found[number], Item)]
        assert len(wrong) == 1 and isinstance(found[wrong[0]], ShardDamaged)
        item = good[wrong[0]]
        assert isinstance(item, Item) and item.key in str(found[wrong[0]])
        assert all(found[number] == good[number] for number in range(samples) if number not in wrong)
    assert dataset.fetcher.read_many(places) == good


def test_a_shard_cut_short_or_gone_gives_errors_and_the_rest_of_the_batch(tmp_path: Path) -> None:
    make_dataset(tmp_path, [[text_sample(n) for n in range(4)], [image_sample(n, 30_000) for n in range(4)]])
    dataset = open_dataset(tmp_path)
    places = places_of(dataset, [(shard, number) for number in range(4) for shard in (0, 1)])
    good = dataset.fetcher.read_many(places)
    for entry in dataset.manifest.shards:
        path = tmp_path / shard_path(entry)
        data = path.read_bytes()
        os.truncate(path, len(data) // 2)
        found = dataset.fetcher.read_many(places)
        assert 0 < sum(isinstance(one, ShardkitError) for one in found) < 8
        assert all(isinstance(one, ShardkitError) or one == kept for one, kept in zip(found, good, strict=True))
        path.write_bytes(data)
    path.unlink()
    found = open_dataset(tmp_path).fetcher.read_many(places)
    assert [isinstance(one, ShardkitError) for one in found] == [False, True] * 4


@pytest.mark.parametrize("size", [50, 40_000])
def test_a_loader_leaves_damaged_samples_out_and_names_them(tmp_path: Path, size: int) -> None:
    make_dataset(tmp_path, [[image_sample(number, size) for number in range(40)]])
    dataset = open_dataset(tmp_path)
    path = tmp_path / shard_path(dataset.manifest.shards[0])
    data = bytearray(path.read_bytes())
    for number in (3, 17):
        data[dataset.fetcher.find_one(0, number)[4] + 700] ^= 1
    path.write_bytes(data)
    for batch_size in (1, 8, 40):
        loader = open_loader(dataset, batch_size=batch_size, on_damage="skip")
        seen = sorted({item.ordinal for batch in loader for item in batch if not item.padded})
        assert seen == [number for number in range(40) if number not in (3, 17)]
        assert sorted(skipped.ordinal for skipped in loader.skipped) == [3, 17]
        with pytest.raises(ShardDamaged):
            list(open_loader(dataset, batch_size=batch_size))


def test_blocks_are_asked_for_ahead_once_where_reads_wait_for_the_disk(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, length, advice: asked.append((offset, length)))
    assert isinstance(dataset.store, LocalStore)
    spans = LocalSpans(dataset.store, [shard_path(entry) for entry in dataset.manifest.shards])
    places = places_of(dataset, [(0, number) for number in range(30)])
    spans.advise(places)
    assert asked == []
    spans._waits = True
    spans.advise(places)
    spans.advise(places)
    table = dataset.tables.find(0, 0)
    assert sorted(asked) == [(ref.file_offset, ref.file_bytes) for ref in table.blocks]


def test_errors_of_the_disk_come_as_errors_of_ours(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    places = places_of(dataset, [(0, 1), (0, 2)])

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert all(isinstance(found, StorageFailed) for found in dataset.fetcher.read_many(places))
