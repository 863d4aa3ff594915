"""Ranges travel together where that is cheaper, and come back exactly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import ShardDamaged
from shardkit.store.http import HttpStore
from shardkit.store.ranges import Join, join_ranges, read_joined
from shardkit.store.urls import open_store
from tests.store.flaky import flaky_server

DATA = random.Random(1).randbytes(5000)
RANGES = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 900)), max_size=20)


@settings(max_examples=150, deadline=None)
@given(RANGES, st.integers(0, 300), st.integers(1, 2000))
def test_every_range_comes_back_exactly_and_requests_stay_in_their_limits(
    ranges: list[tuple[int, int]], gap: int, most: int
) -> None:
    asked: list[tuple[int, int]] = []

    def read_range(path: str, offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return DATA[offset : offset + length]

    found = read_joined(read_range, "file", ranges, gap, most)
    assert found == [DATA[offset : offset + length] for offset, length in ranges]
    longest = max((length for _, length in ranges), default=0)
    assert all(0 < length <= max(most, longest) for _, length in asked)
    joins = join_ranges(ranges, gap, most)
    assert sorted(n for join in joins for n in join.members) == [n for n, (_, length) in enumerate(ranges) if length]


def test_neighbours_are_joined_across_a_small_gap_only() -> None:
    assert join_ranges([(100, 10), (0, 100), (120, 5), (200, 5)], gap_bytes=10) == [
        Join(0, 125, (1, 0, 2)),
        Join(200, 5, (3,)),
    ]
    assert join_ranges([(0, 10), (11, 10)], gap_bytes=0) == [Join(0, 10, (0,)), Join(11, 10, (1,))]


def test_a_request_does_not_grow_beyond_its_limit() -> None:
    assert [join.length for join in join_ranges([(n * 10, 10) for n in range(10)], most_bytes=40)] == [40, 40, 20]
    assert join_ranges([(0, 500), (500, 10)], most_bytes=40) == [Join(0, 500, (0,)), Join(500, 10, (1,))]


def test_a_range_inside_another_costs_no_request() -> None:
    assert join_ranges([(0, 500), (100, 10)], most_bytes=40) == [Join(0, 500, (0, 1))]


def test_stores_read_ranges_alike(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    wanted = [(4000, 10), (0, 7), (7, 3), (50, 0), (2000, 100)]
    with flaky_server(tmp_path) as server:
        for url in (str(tmp_path), server.url):
            store = open_store(url)
            assert store.read_ranges("file", wanted) == [DATA[at : at + size] for at, size in wanted]
            with pytest.raises(ShardDamaged):
                store.read_ranges("file", [(0, 5), (4999, 2)])
        server.requests.clear()
        HttpStore(server.url).read_ranges("file", wanted, gap_bytes=100)
        assert [asked for _, asked in server.requests] == ["bytes=0-9", "bytes=2000-2099", "bytes=4000-4009"]
