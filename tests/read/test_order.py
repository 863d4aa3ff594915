"""The epoch's order: a bijection, closed-form, pinned to the bit, and well shuffled."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.read.order import LABEL, EpochOrder, LiveSamples
from shardkit.read.permute import derive_keys, mix64, permute, permute_array


@st.composite
def datasets(draw: st.DrawFn) -> tuple[list[int], dict[int, list[int]], int]:
    sizes = draw(st.lists(st.sampled_from([0, 0, 1, 2, 5, 16, 17, 48, 61]), min_size=1, max_size=9))
    omitted = {}
    for shard, size in enumerate(sizes):
        if size and draw(st.booleans()):
            omitted[shard] = draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size))
    return sizes, omitted, draw(st.sampled_from([1, 2, 5, 16]))


@settings(max_examples=250, deadline=None)
@given(
    datasets(),
    st.sampled_from([1, 2, 3, 7, 64, 1024]),
    st.sampled_from([1, 2, 3, 8, 64, 100_000]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 3),
)
def test_every_live_sample_comes_once_and_lookups_agree(
    dataset: tuple[list[int], dict[int, list[int]], int], lanes: int, window: int, seed: int, epoch: int
) -> None:
    sizes, omitted, block = dataset
    live = LiveSamples(sizes, block, omitted)
    order = EpochOrder(live, seed=seed, epoch=epoch, lanes=lanes, window=window)
    shards, ordinals = order.locate_many(np.arange(len(order)))
    found = list(zip(shards.tolist(), ordinals.tolist(), strict=True))
    wanted = [(shard, at) for shard, size in enumerate(sizes) for at in range(size) if at not in omitted.get(shard, ())]
    assert sorted(found) == wanted
    assert [order.locate(position) for position in range(len(order))] == found
    assert [live.stored_order(index) for index in range(len(order))] == wanted


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_permutation_is_a_bijection_and_arrays_agree_with_numbers(n: int, key: int) -> None:
    images = [permute(i, n, key) for i in range(n)]
    assert sorted(images) == list(range(n))
    columns = [np.array(values, dtype=np.uint64) for values in (range(n), [n], [key])]
    assert permute_array(*columns).tolist() == images


def test_permutation_agrees_with_numbers_at_huge_sizes() -> None:
    for n in (2**40 - 1, 2**40, 2**40 + 1, (1 << 31) ** 2, (3_037_000_499) ** 2 // 4):
        places = np.array([0, 1, n // 2, n - 2, n - 1], dtype=np.uint64)
        images = permute_array(places, np.array([n], dtype=np.uint64), np.array([99], dtype=np.uint64)).tolist()
        assert images == [permute(int(i), n, 99) for i in places]
        assert max(images) < n and len(set(images)) == len(images)


def test_order_is_the_one_that_FORMAT_md_defines() -> None:  # noqa: N802
    """Pinned numbers: a saved state must mean the same order in every later version."""
    assert mix64(1) == 6238072747940578789
    assert derive_keys(LABEL, 7, 2, 3) == (2706440837253173596, 10363035213449399123, 4349908202661986136)
    assert [permute(i, 10, 12345) for i in range(10)] == [7, 4, 8, 3, 0, 9, 1, 6, 2, 5]
    assert [permute(i, 10**12, 99) for i in range(3)] == [873418528572, 426238245157, 488910708791]
    live = LiveSamples([37, 0, 20, 3, 41], 4, {2: [0, 5, 19]})
    order = EpochOrder(live, seed=7, epoch=2, lanes=5, window=6)
    assert [order.locate(position) for position in range(0, len(order), 7)] == [
        (4, 0), (0, 9), (2, 10), (0, 28), (0, 15), (4, 2), (4, 24), (4, 21), (4, 11), (4, 4), (0, 24), (0, 7),
        (4, 40), (0, 21),
    ]  # fmt: skip


def test_seed_and_epoch_change_the_order() -> None:
    live = LiveSamples([100, 60], 4)
    orders = set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        order = EpochOrder(live, seed=seed, epoch=epoch, lanes=8, window=10)
        orders.add(tuple(order.locate_many(np.arange(160))[1].tolist()))
    assert len(orders) == 4


def test_blocks_tails_and_windows_each_depend_on_the_key() -> None:
    """Removing any one key from the order must show here."""

    def line(sizes: list[int], block: int, seed: int) -> list[tuple[int, int]]:
        order = EpochOrder(LiveSamples(sizes, block), seed=seed, epoch=0, lanes=1, window=1)
        return [order.locate(position) for position in range(len(order))]

    def shuffled(seed: int) -> list[int]:
        order = EpochOrder(LiveSamples([64], 64), seed=seed, epoch=0, lanes=2, window=8)
        return [order.locate(position)[1] for position in range(64)]

    assert line([64], 4, 0) != line([64], 4, 1) != [(0, at) for at in range(64)]
    assert line([1] * 30, 4, 0) != line([1] * 30, 4, 1) != [(shard, 0) for shard in range(30)]
    assert shuffled(0) != shuffled(1)


def test_windows_of_one_lane_are_shuffled_differently() -> None:
    order = EpochOrder(LiveSamples([4096], 4096), seed=0, epoch=0, lanes=1, window=16)
    ordinals = [order.locate(position)[1] for position in range(4096)]
    shuffles = {tuple(at % 16 for at in ordinals[start : start + 16]) for start in range(0, 4096, 16)}
    assert len(shuffles) == 256
    assert all(
        sorted(at % 16 for at in ordinals[start : start + 16]) == list(range(16)) for start in range(0, 4096, 16)
    )


def test_small_permutations_are_uniform() -> None:
    """Each of the 24 orders of four comes up equally often (chi-squared, 23 degrees; 60 is beyond one in 20,000)."""
    counts: dict[tuple[int, ...], int] = {}
    for key in range(24_000):
        images = tuple(permute(i, 4, mix64(key)) for i in range(4))
        counts[images] = counts.get(images, 0) + 1
    chi = sum((counts.get(images, 0) - 1000) ** 2 / 1000 for images in counts) + 1000 * (24 - len(counts))
    assert chi < 60


def test_batches_mix_sources_nearly_as_a_true_permutation() -> None:
    """Four sources of 200 shards each, in runs: the spread of a source's share in batches of 2,048 is near ideal."""
    order = EpochOrder(LiveSamples([500] * 800, 16), seed=5, epoch=0, lanes=1024, window=64)
    shards, _ = order.locate_many(np.arange(195 * 2048))
    shares = (shards // 200 == 0).reshape(195, 2048).sum(axis=1)
    ideal = 2048 * 0.25 * 0.75
    assert shares.var() < 1.6 * ideal


def test_lanes_do_not_turn_over_together() -> None:
    order = EpochOrder(LiveSamples([6400], 1), seed=0, epoch=0, lanes=64, window=50)
    assert sorted({order.lane(lane).first_window for lane in range(64)}) == sorted(
        {50 - lane * 50 // 64 for lane in range(64)}
    )
    assert min(order.lane(lane).first_window for lane in range(64)) >= 1


def test_a_billion_samples_are_ordered_without_arrays_of_samples() -> None:
    started = time.process_time()
    order = EpochOrder(LiveSamples([10_000] * 100_000, 16), seed=1, epoch=0, lanes=1024, window=64)
    found = {order.locate(position) for position in range(0, 10**9, 10**7)}
    assert len(found) == 100
    assert time.process_time() - started < 2
