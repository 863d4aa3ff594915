"""What ranks fetch in an epoch, counted: every lane's blocks once, as the arithmetic of tools.order_scale says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardkit.read import table
from shardkit.read.dataset import open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.order import EpochOrder
from shardkit.read.serve import serve_folder
from shardkit.records.row import Member, Prepared
from tests.read.made import image_sample, make_dataset
from tools.order_scale import BLOCK, Scale, count_blocks, count_reading, make_order, simulate, walk_rank, write_manifest

SMALL = Scale(samples=120_007, shards=311, sample_bytes=51_200, ranks=8, batch_size=4, lanes=64, positions=50)


def test_blocks_counted_from_the_lanes_ends_are_those_that_the_lanes_touch() -> None:
    order, _ = make_order(SMALL)
    positions = np.arange(len(order))
    shards, ordinals = order.locate_many(positions)
    touched = np.stack((positions % order.lanes, shards, ordinals // BLOCK), axis=1)
    distinct = np.unique(touched, axis=0)
    sizes = np.array(SMALL.shard_sizes())
    samples = np.minimum(BLOCK, sizes[distinct[:, 1]] - distinct[:, 2] * BLOCK)
    assert count_blocks(order, 10) == (len(distinct), 10 * int(samples.sum()))


def test_ranks_with_lanes_of_their_own_fetch_the_dataset_about_once() -> None:
    order, state = make_order(SMALL)
    walks = [walk_rank(order, rank, SMALL) for rank in range(SMALL.ranks)]
    blocks, data_bytes = count_blocks(order, SMALL.sample_bytes)
    # A rank reads several lanes, and the drop of the last step leaves out a few samples.
    assert 0.97 * blocks <= sum(walk["blocks"] for walk in walks) <= blocks
    assert data_bytes <= 1.02 * len(order) * SMALL.sample_bytes
    lanes_of_a_rank = SMALL.lanes // SMALL.ranks
    assert max(walk["held_samples"] for walk in walks) <= lanes_of_a_rank * (state.window + 3 * BLOCK)
    found = count_reading(order, state, SMALL)
    assert found["lanes_are_a_multiple_of_the_global_batch"] and found["fetched_over_dataset"] <= 1.05
    with pytest.raises(SystemExit, match="own"):
        walk_rank(order, 0, Scale(samples=120_007, shards=311, ranks=7, batch_size=4, lanes=64))


def test_a_server_is_asked_for_as_many_bytes_as_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four ranks with a lane each, read for real from a server, heads and pages one by one as in a large dataset."""
    monkeypatch.setattr(table, "INDEX_BYTES", 100_000)  # less than these indexes take
    numbers = iter(range(10_000))
    make_dataset(tmp_path, [[image(next(numbers)) for _ in range(size)] for size in (250, 301, 249, 160)], block=BLOCK)
    dataset = open_dataset(tmp_path)
    span = dataset[0].size_bytes
    assert all(item.size_bytes == span for item in dataset)
    with serve_folder(tmp_path) as server:
        for rank in range(4):
            loader = open_loader(open_dataset(server.url), world_size=4, rank=rank, lanes=4)
            assert sum(len(batch) for batch in loader) == 240
        asked = {kind: [r for r in server.requests if r.path.startswith(kind)] for kind in ("shards/", "indexes/")}
    order = EpochOrder(dataset.live, seed=0, epoch=0, lanes=4, window=1)
    blocks, data_bytes = count_blocks(order, span)
    assert sum(request.length for request in asked["shards/"]) == data_bytes <= 1.05 * len(order) * span
    assert len(asked["indexes/"]) == blocks + 4 * 4  # a page a block, and each rank needs the head of each shard once


def image(number: int) -> Prepared:
    """An image whose sample takes as many bytes of the tar as any other's."""
    made = image_sample(number, size=6000)
    data = made.members[0].data[:6000]
    return Prepared(sample=made.sample, members=(Member(name="image0.png", data=data),))


def test_simulation_opens_the_manifest_that_it_made(tmp_path: Path) -> None:
    figures = simulate(SMALL)
    assert figures["opening"]["samples"] == SMALL.samples == figures["manifest"]["samples"]
    assert figures["locating"]["positions"] == 50
    write_manifest(tmp_path, SMALL)
    loader = open_loader(open_dataset(tmp_path), batch_size=4, world_size=8, rank=3, lanes=64)
    assert len(loader) == SMALL.samples // 32
