"""Reading from a server: few requests, none for what was consumed, and nothing but good bytes or an error."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from itertools import product
from pathlib import Path

import pytest

from shardkit.errors import ShardDamaged, ShardkitError, StorageFailed
from shardkit.read.ahead import FETCHING_THREADS, fetch_pool
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.serve import FolderServer, Request, serve_folder
from shardkit.store.http import HttpStore, Patience
from shardkit.store.layout import shard_path
from shardkit.store.manifest import read_columns, read_manifest
from tests.read.made import image_sample, make_dataset, numbered, text_sample
from tests.store.flaky import flaky_server

QUICK = Patience(deadline_seconds=0.5, silence_seconds=0.3, attempts=3, first_pause_seconds=0.01)
BLOCK = 4


@pytest.fixture(scope="module", params=["tar", "tar.zst"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    make_dataset(folder, numbered([64, 64, 64], images=False), codec=request.param, block=BLOCK)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FolderServer]:
    with serve_folder(root) as running:
        yield running


def open_quickly(url: str) -> Dataset:
    """A dataset whose store does not wait long for a server in trouble."""
    store = HttpStore(url, QUICK)
    version, manifest = read_manifest(store)
    return Dataset(store, version, manifest, read_columns(store, manifest))


def of_shards(requests: list[Request]) -> list[Request]:
    return [request for request in requests if request.path.startswith("shards/")]


def merged(spans: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """(path, begin, end) of files' bytes, neighbours as one; no byte is in two of them."""
    found: list[tuple[str, int, int]] = []
    for path, begin, end in sorted(spans):
        if found and found[-1][0] == path:
            assert begin >= found[-1][2], f"byte {begin} of {path} was asked for twice"
            if begin == found[-1][2]:
                begin = found.pop()[1]
        found.append((path, begin, end))
    return found


def bytes_asked(requests: list[Request]) -> list[tuple[str, int, int]]:
    return merged((path, offset, offset + length) for path, offset, length in of_shards(requests))


def bytes_of(dataset: Dataset, blocks: Iterable[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Where blocks, given as (shard, number), lie."""
    spans = []
    for shard, block in set(blocks):
        ref = dataset.tables.find(shard, 0).blocks[block]
        path = shard_path(dataset.manifest.shards[shard])
        spans.append((path, ref.file_offset, ref.file_offset + ref.file_bytes))
    return merged(spans)


def test_an_epoch_asks_for_every_block_once(server: FolderServer) -> None:
    dataset = open_dataset(server.url)
    batches = list(open_loader(dataset, batch_size=8))
    assert len({item.key for batch in batches for item in batch}) == 192
    assert bytes_asked(server.requests) == bytes_of(dataset, product(range(3), range(64 // BLOCK)))
    assert len(of_shards(server.requests)) < 192 // BLOCK, "neighbours wanted at the same time travel together"
    indexes = [request for request in server.requests if request.path.startswith("indexes/")]
    assert len(indexes) == 3


@pytest.mark.parametrize("at", [3, 11, 20])
def test_a_resume_reads_nothing_that_was_consumed(root: Path, server: FolderServer, at: int) -> None:
    """Only blocks that hold a sample still to come are asked for, each once."""
    fields = {"batch_size": 8, "lanes": 8, "window": 8, "seed": 1}
    batches = list(open_loader(open_dataset(root), **fields))  # type: ignore[arg-type]
    dataset = open_dataset(server.url)
    loader = open_loader(dataset, **fields)  # type: ignore[arg-type]
    loader.load_state_dict(batches[at].state)
    server.requests.clear()
    rest = list(loader)
    assert rest == batches[at + 1 :]
    blocks = {(item.shard, item.ordinal // BLOCK) for batch in rest for item in batch}
    assert bytes_asked(server.requests) == bytes_of(dataset, blocks)


def test_a_short_budget_reads_single_samples_and_a_resume_only_those_to_come(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([64, 64, 64], images=False), block=BLOCK)
    for budget in (0, 40_000):
        with serve_folder(tmp_path) as server:
            loader = open_loader(open_dataset(server.url), batch_size=8, read_ahead_bytes=budget)
            batches = list(loader)
            loader.load_state_dict(batches[15].state)
            server.requests.clear()
            assert list(loader) == batches[16:]
            asked = of_shards(server.requests)
        assert len(bytes_asked(asked)) <= len(asked) <= 192 - 16 * 8
        assert sum(request.length for request in asked) == sum(i.size_bytes for b in batches[16:] for i in b)


def test_ranks_whose_lanes_are_their_own_read_their_own_blocks(root: Path, server: FolderServer) -> None:
    for rank in range(2):
        list(open_loader(open_dataset(server.url), batch_size=4, lanes=8, world_size=2, rank=rank))
    size = sum(entry.tar_bytes for entry in open_dataset(root).manifest.shards)
    asked = sum(request.length for request in of_shards(server.requests))
    assert asked < 1.3 * size  # a lane may begin or end within a block


def test_worker_threads_read_the_same(root: Path, server: FolderServer) -> None:
    local = list(open_loader(open_dataset(root), batch_size=8))
    assert list(open_loader(open_dataset(server.url), batch_size=8, num_workers=3)) == local


@pytest.mark.parametrize("fault", ["reset", "truncate", "503", "wrong range", "other bytes"])
def test_a_server_that_stumbles_is_asked_again(root: Path, fault: str) -> None:
    good = list(open_dataset(root))
    with flaky_server(root) as server:
        dataset = open_quickly(server.url)
        server.faults = [fault, "", fault]
        assert [dataset[index] for index in range(8)] == good[:8]


def test_a_server_that_dies_half_way_is_an_error_and_no_batch_is_wrong(root: Path) -> None:
    good = {item.key: item for item in open_dataset(root)}
    with flaky_server(root) as server:
        dataset = open_quickly(server.url)
        items = []
        with pytest.raises(StorageFailed, match="check the server"):
            for batch in open_loader(dataset, batch_size=4, read_ahead_bytes=30_000):
                items += batch
                if len(items) == 12:
                    server.faults = ["reset"] * 10_000
        assert 12 <= len(items) < 192 and all(item == good[item.key] for item in items)


def test_a_file_that_changes_on_the_server_is_noticed(root: Path) -> None:
    with flaky_server(root) as server:
        dataset = open_quickly(server.url)
        list(open_loader(dataset, batch_size=8, read_ahead_bytes=0))
        server.faults = ["change"]
        with pytest.raises(ShardDamaged, match="changed on the server"):
            list(open_loader(dataset, batch_size=8, read_ahead_bytes=0))


def test_no_flipped_bit_comes_through_the_network(tmp_path: Path) -> None:
    """Every fifth byte, one bit each; the server does not know that its file is damaged."""
    make_dataset(tmp_path, [[text_sample(1), image_sample(2, size=40)]], block=1)
    good = list(open_dataset(tmp_path))
    path = tmp_path / shard_path(open_dataset(tmp_path).manifest.shards[0])
    data = path.read_bytes()
    with flaky_server(tmp_path) as server:
        dataset = open_quickly(server.url)
        for at in range(0, len(data) - 1024, 5):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            found = []
            for index in range(2):
                try:
                    found.append(dataset[index])
                except ShardkitError:
                    continue
            assert len(found) == 1 and found[0] == good[found[0].ordinal]
        for length in range(0, len(data) - 1024, 41):
            path.write_bytes(data[:length])
            with pytest.raises(ShardkitError):
                list(open_loader(dataset, batch_size=2))


def test_members_are_checked_against_their_own_digests(tmp_path: Path) -> None:
    """A span whose XXH3-64 fits is not enough where bytes came over a network."""
    make_dataset(tmp_path, [[image_sample(2, size=40)]])
    with serve_folder(tmp_path) as server:
        dataset = open_dataset(server.url)
        table = dataset.tables.find(0, 0)
        table._digests = bytes(len(table._digests))
        with pytest.raises(ShardDamaged, match="member json does not have the digest"):
            _ = dataset[0]


def test_an_unreachable_server_is_named_without_secrets() -> None:
    with pytest.raises(StorageFailed) as caught:
        open_quickly("http://user:hunter2@127.0.0.1:9/data?token=abc")
    assert "127.0.0.1:9" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "abc" not in str(caught.value)


@pytest.mark.parametrize("budget", [40_000, 120_000, 768 << 20])
def test_a_slow_reader_holds_and_asks_for_no_more_than_the_budget(tmp_path: Path, budget: int) -> None:
    """Counted in bytes after every batch, however long the reader takes for it."""
    make_dataset(tmp_path, numbered([64, 64, 64], images=False), block=BLOCK)
    with serve_folder(tmp_path) as server:
        dataset = open_dataset(server.url)
        fields = {"lanes": 8, "window": 4, "read_ahead_bytes": budget}
        loader = open_loader(dataset, batch_size=4, decode=lambda item: item, **fields)  # type: ignore[arg-type]
        (fetcher,) = {member.fetcher for member in loader._reader._members}
        handed_out: set[tuple[int, int]] = set()
        largest = max(ref.tar_bytes for shard in range(3) for ref in dataset.tables.find(shard, 0).blocks)
        limit = min(64 << 20, budget // 4)
        for batch in loader:
            handed_out |= {(item.shard, item.ordinal // BLOCK) for item in batch}
            asked = sum(request.length for request in of_shards(server.requests))
            needed = sum(end - begin for _, begin, end in bytes_of(dataset, handed_out))
            assert asked <= needed + limit + 4 * largest  # a step is asked for as a whole
            assert fetcher._blocks.most_bytes <= max(budget, limit + 4 * largest)


def test_requests_widen_only_while_the_reader_waits() -> None:
    gate = threading.Event()
    with fetch_pool() as pool:
        first = [pool.submit(gate.wait) for _ in range(FETCHING_THREADS)]
        late = pool.submit(int)
        pool.widen_unless_done(0)
        assert pool.width == FETCHING_THREADS and not late.done()
        pool.widen_unless_done(pool.submitted)
        assert pool.width == FETCHING_THREADS + 1 and late.result(timeout=10) == 0
        gate.set()
        wait(first)
        pool.submit(int).result(timeout=10)
        for _ in range(100):
            pool.widen_unless_done(0)
        assert pool.width == FETCHING_THREADS + 1
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_work_that_had_not_begun_is_cancelled_with_the_pool() -> None:
    gate = threading.Event()
    with fetch_pool() as pool:
        running = [pool.submit(gate.wait) for _ in range(FETCHING_THREADS)]
        waiting = pool.submit(int)
    assert waiting.cancelled() and not any(future.cancelled() for future in running)
    gate.set()


def test_a_request_that_trickles_goes_on_over_another_connection(root: Path) -> None:
    """Long before the deadline, and nothing that came is asked for again."""
    good = list(open_dataset(root))
    patience = Patience(deadline_seconds=300, silence_seconds=100, slow_seconds=0.2, first_pause_seconds=0.01)
    with flaky_server(root) as server:
        store = HttpStore(server.url, patience)
        version, manifest = read_manifest(store)
        dataset = Dataset(store, version, manifest, {})
        dataset.tables.find(0, 0)
        server.requests.clear()
        server.faults = ["trickle"]
        assert dataset[0] == good[0]
        ranges = [asked.removeprefix("bytes=").split("-") for _, asked in server.requests]
        assert len(ranges) >= 2 and int(ranges[1][0]) > int(ranges[0][0]) and ranges[0][1] == ranges[1][1]


def test_a_silent_request_is_given_up_for_another_connection(root: Path) -> None:
    good = list(open_dataset(root))
    patience = Patience(deadline_seconds=300, silence_seconds=100, slow_seconds=0.2, first_pause_seconds=0.01)
    with flaky_server(root) as server:
        store = HttpStore(server.url, patience)
        version, manifest = read_manifest(store)
        server.faults = ["hang", ""]
        dataset = Dataset(store, version, manifest, {})
        assert dataset[0] == good[0]
        assert [path for path, _ in server.requests[2:4]] == [server.requests[2][0]] * 2
