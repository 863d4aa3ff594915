"""The disk cache: shared, bounded, leased, checked at every reuse; whatever happens to it, bytes are right."""

from __future__ import annotations

import errno
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import ShardDamaged, SpecError
from shardkit.read.dataset import open_dataset
from shardkit.read.diskcache import CacheWarning, DiskCache, Key, cache_folder, open_cache
from shardkit.read.foreign import Indexing, index_tars
from shardkit.read.loader import open_loader
from shardkit.read.serve import FolderServer, serve_folder
from shardkit.store import fs
from shardkit.store.layout import shard_path
from tests.read.caches import BLOCK, counts, entries, epoch, requested
from tests.read.foreign import text_tars
from tests.read.made import make_dataset, numbered
from tests.store.flaky import flaky_server

A, B = "a" * 64, "b" * 64


def test_a_second_reading_asks_the_server_for_the_pointer_alone(
    root: Path, server: FolderServer, tmp_path: Path
) -> None:
    local = epoch(open_dataset(root))
    assert epoch(open_dataset(server.url, cache=tmp_path)) == local
    server.requests.clear()
    again = open_dataset(server.url, cache=tmp_path)
    assert epoch(again) == local and list(again) == list(open_dataset(root))
    assert requested(server) == ["manifest.json"]


def test_a_loader_can_be_given_the_cache(root: Path, server: FolderServer, tmp_path: Path) -> None:
    dataset = open_dataset(server.url)
    for fields in ({}, {"read_ahead_bytes": 0}, {"num_workers": 2}):
        loader = open_loader(dataset, batch_size=8, seed=3, cache=tmp_path, cache_bytes=1 << 20, **fields)
        assert list(pickle.loads(pickle.dumps(loader))) == epoch(open_dataset(root))
    server.requests.clear()
    assert epoch(dataset, cache=tmp_path, cache_bytes=1 << 20) == epoch(open_dataset(root))
    assert requested(server) == []


def test_a_local_dataset_needs_no_cache(root: Path, tmp_path: Path) -> None:
    epoch(open_dataset(root, cache=tmp_path / "none"), cache=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_poisoned_copy_is_removed_and_fetched_again(root: Path, server: FolderServer, tmp_path: Path) -> None:
    """One bit in every entry, at another place in each; then every entry cut; then every entry grown."""
    local = epoch(open_dataset(root))
    epoch(open_dataset(server.url, cache=tmp_path))
    for poison in (_flip, lambda path, at: os.truncate(path, at % path.stat().st_size), _grow):
        for number, path in enumerate(entries(tmp_path)):
            poison(path, 37 * number)
        cache = open_cache(tmp_path)
        before = cache.counts.damaged
        assert epoch(open_dataset(server.url, cache=tmp_path)) == local
        assert cache.counts.damaged - before == len(entries(tmp_path))
        server.requests.clear()
        assert epoch(open_dataset(server.url, cache=tmp_path)) == local
        assert requested(server) == ["manifest.json"]


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << at % 8
    path.write_bytes(data)


def _grow(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def test_a_copy_with_any_bit_flipped_or_any_byte_missing_is_no_copy(tmp_path: Path) -> None:
    """Also one that stands where another belongs."""
    cache = DiskCache(tmp_path, 1 << 20)
    key, data = Key(A, "0-40"), bytes(range(40))
    cache.read([key], lambda _: [data])
    (path,) = entries(tmp_path)
    good = path.read_bytes()
    bad = [good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :] for at in range(len(good)) for bit in range(8)]
    bad += [good[:length] for length in range(len(good))] + [good + b"\0", good[1:], b"\0" + good]
    for poisoned in bad:
        path.write_bytes(poisoned)
        assert cache.get(key) is None and not path.exists()
    assert cache.counts.damaged == len(bad)
    path.with_name("40-40").write_bytes(good)
    assert cache.get(Key(A, "40-40")) is None


def test_a_copy_that_is_whole_but_of_other_bytes_is_removed_and_fetched_again(
    root: Path, server: FolderServer, tmp_path: Path
) -> None:
    """As an attacker, or a server that once lied, would leave it: with a seal that fits, and other digests."""
    local = epoch(open_dataset(root))
    epoch(open_dataset(server.url, cache=tmp_path))
    cache = open_cache(tmp_path)
    count = len(entries(tmp_path))
    for path in entries(tmp_path):
        key = Key(path.parent.name, path.name)
        data = cache.get(key)
        assert data is not None
        path.unlink()
        cache.read([key], lambda _, data=data: [bytes([data[0] ^ 1]) + data[1:]])  # type: ignore[misc]
    assert len(entries(tmp_path)) == count
    before = cache.counts.damaged
    dataset = open_dataset(server.url, cache=tmp_path)
    assert epoch(dataset) == local and list(dataset) == list(open_dataset(root))
    assert cache.counts.damaged - before == count
    server.requests.clear()
    assert epoch(open_dataset(server.url, cache=tmp_path)) == local
    assert requested(server) == ["manifest.json"]


def test_what_is_damaged_on_the_server_is_an_error_and_stays_nowhere(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", numbered([8], images=False), block=BLOCK)
    dataset = open_dataset(tmp_path / "data")
    good = list(dataset)
    path = tmp_path / "data" / shard_path(dataset.manifest.shards[0])
    whole = path.read_bytes()
    _flip(path, 600)
    with flaky_server(tmp_path / "data") as server:
        with pytest.raises(ShardDamaged):
            list(open_dataset(server.url, cache=tmp_path / "cache"))
        for entry in entries(tmp_path / "cache"):
            if entry.parent.name == path.stem:
                offset, _, length = entry.name.partition("-")
                assert entry.read_bytes()[:-16] == whole[int(offset) :][: int(length)]
        path.write_bytes(whole)
        assert list(open_dataset(server.url, cache=tmp_path / "cache")) == good


@pytest.mark.parametrize("kind", ["create", "write", "replace"])
def test_a_full_disk_is_one_warning_and_reading_goes_on(
    root: Path, server: FolderServer, tmp_path: Path, kind: str
) -> None:
    fault = _Failing(kind)
    before = fs.observe(fault)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = open_dataset(server.url, cache=tmp_path)
            assert epoch(dataset) == epoch(open_dataset(root))
            assert epoch(dataset, num_workers=2) == epoch(open_dataset(root))
    finally:
        fs.observe(before)
    assert [warning.category for warning in caught] == [CacheWarning]
    assert "No space left" in str(caught[0].message) and fault.failed == 1
    assert entries(tmp_path) == [] and not list((tmp_path / "blocks" / "claims").iterdir())


class _Failing:
    """A disk that is full from the first call of this kind on."""

    def __init__(self, kind: str) -> None:
        self.kind, self.failed = kind, 0

    def before(self, operation: fs.Operation) -> None:
        if operation.kind == self.kind:
            self.failed += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def after(self, operation: fs.Operation) -> None:
        """Nothing."""


@pytest.mark.parametrize("where", ["read-only", "nowhere"])
def test_a_folder_that_cannot_be_written_is_one_warning(
    root: Path, server: FolderServer, tmp_path: Path, where: str
) -> None:
    if where == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path if where == "read-only" else Path("/proc/shardkit")
    tmp_path.chmod(0o500)
    try:
        with pytest.warns(CacheWarning, match="cannot be written") as caught:
            assert epoch(open_dataset(server.url, cache=folder)) == epoch(open_dataset(root))
        assert len(caught) == 1
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("size", [-1, 1.5, "64"])
def test_a_size_that_no_cache_has_is_refused(server: FolderServer, tmp_path: Path, size: Any) -> None:
    with pytest.raises(SpecError, match="cache_bytes is"):
        open_dataset(server.url, cache=tmp_path / "cache", cache_bytes=size)


def test_a_cache_below_a_file_is_refused(server: FolderServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpecError, match="give a folder"):
        open_dataset(server.url, cache=tmp_path / "file")


def test_threads_that_want_the_same_entry_load_it_once(tmp_path: Path) -> None:
    """Also those of two caches over one folder, as two processes have them."""
    loads = []
    gate = threading.Barrier(8)

    another = threading.Event()

    def load(missing: list[int]) -> list[bytes]:
        if loads:
            another.set()
        loads.append(missing)
        another.wait(0.3)  # so long that others would come, if they could
        return [bytes(100) for _ in missing]

    def read(number: int) -> list[bytes]:
        cache = DiskCache(tmp_path, 1 << 20)
        gate.wait()
        return cache.read([Key(A, "0-100"), Key(B, "0-100")], load)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [[bytes(100)] * 2] * 8
    assert sum(len(missing) for missing in loads) == 2


def test_an_error_of_the_server_leaves_no_claim(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1 << 20)

    def fail(missing: list[int]) -> list[bytes]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.read([Key(A, "0-100")], fail)
    assert not list((tmp_path / "blocks" / "claims").iterdir())
    assert cache.read([Key(A, "0-100")], lambda _: [bytes(100)]) == [bytes(100)]


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SHARDKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "shardkit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "shardkit"
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def test_tars_that_others_made_are_cached_by_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named themselves, then with their index on the server, too."""
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path / "indexes"))
    (tmp_path / "tars").mkdir()
    text_tars(tmp_path / "tars", [9, 7])
    with serve_folder(tmp_path / "tars") as server:
        url = f"{server.url}/shard-{{000..001}}.tar"
        index_tars([f"{server.url}/shard-00{at}.tar" for at in range(2)], tmp_path / "tars" / "own", Indexing())
        for place in (url, f"{server.url}/own"):
            plain = epoch(open_dataset(place), tail="split")
            assert epoch(open_dataset(place, cache=tmp_path / "cache"), tail="split") == plain
            server.requests.clear()
            assert epoch(open_dataset(place, cache=tmp_path / "cache"), tail="split") == plain
            of_bytes = [request for request in server.requests if request.length > 1]  # others ask for tags
            assert {request.path for request in of_bytes} <= {"own/manifest.json"}


@pytest.mark.parametrize("fault", ["reset", "truncate", "503", "wrong range", "other bytes"])
def test_what_a_stumbling_server_sends_is_not_kept_before_it_is_right(root: Path, tmp_path: Path, fault: str) -> None:
    local = epoch(open_dataset(root))
    with flaky_server(root) as server:
        dataset = open_dataset(server.url, cache=tmp_path)
        server.faults = [fault, "", fault]
        assert epoch(dataset) == local
        server.requests.clear()
        assert epoch(open_dataset(server.url, cache=tmp_path)) == local
        assert [path for path, _ in server.requests] == ["/manifest.json"]
    assert counts(dataset).damaged == 0
