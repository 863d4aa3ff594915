"""Reading over http: exact bytes or a clear error, whatever the server does; no secret in any message."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, ShardkitError, StorageFailed
from shardkit.store.http import HttpStore, Patience
from shardkit.store.layout import shard_path
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store
from shardkit.store.verify import verify
from tests.store.flaky import Flaky, flaky_server
from tests.store.made import build_tiny

DATA = bytes(range(256)) * 40
QUICK = Patience(deadline_seconds=0.6, silence_seconds=0.3, attempts=4, first_pause_seconds=0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Flaky]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(DATA)
    with flaky_server(tmp_path) as running:
        yield running


def store_of(server: Flaky, patience: Patience = QUICK) -> HttpStore:
    return HttpStore(f"{server.url}/data", patience)


def test_ranges_and_whole_files_are_exact(server: Flaky) -> None:
    store = store_of(server)
    assert store.read_range("file", 300, 1000) == DATA[300:1300]
    assert store.read("file", len(DATA)) == DATA
    assert store.read_range("file", len(DATA) - 1, 1) == DATA[-1:]
    assert store.read_range("file", 5, 0) == b""
    assert store.size("file") == len(DATA)
    assert store.is_remote
    assert server.requests[0] == ("/data/file", "bytes=300-1299")
    assert (store.requests, store.bytes_read) == (4, 1000 + len(DATA) + 2)


EITHER = ("500", "503", "429", "reset", "truncate", "hang", "redirect")
OF_RANGES = ("wrong range", "other bytes", "unsaid cut")


@pytest.mark.parametrize(
    ("fault", "whole"), [(f, whole) for f in EITHER for whole in (False, True)] + [(f, False) for f in OF_RANGES]
)
def test_passing_trouble_is_survived(server: Flaky, fault: str, whole: bool) -> None:
    store = store_of(server, Patience(deadline_seconds=10, silence_seconds=0.2, first_pause_seconds=0.01))
    server.faults = [fault, fault]
    found = store.read("file", len(DATA)) if whole else store.read_range("file", 300, 1000)
    assert found == (DATA if whole else DATA[300:1300])


def test_interrupted_range_goes_on_where_it_stopped(server: Flaky) -> None:
    server.faults = ["truncate", "truncate"]
    assert store_of(server).read_range("file", 0, 1000) == DATA[:1000]
    assert [asked for _, asked in server.requests] == ["bytes=0-999", "bytes=500-999", "bytes=750-999"]


def test_without_etag_an_interrupted_range_begins_anew(server: Flaky) -> None:
    server.tag = ""
    server.faults = ["truncate"]
    assert store_of(server).read_range("file", 0, 1000) == DATA[:1000]
    assert [asked for _, asked in server.requests] == ["bytes=0-999"] * 2


@pytest.mark.parametrize("fault", ["500", "reset", "truncate", "wrong range", "trickle", "hang"])
def test_lasting_trouble_is_a_clear_error_within_the_deadline(server: Flaky, fault: str) -> None:
    server.faults = [fault] * 100
    started = time.monotonic()
    with pytest.raises(StorageFailed, match=f"cannot read {server.url}/data/file: .*run the same command again"):
        store_of(server).read_range("file", 0, 5000)
    assert time.monotonic() - started < 3


def test_object_that_changes_in_between_is_damage(server: Flaky) -> None:
    store = store_of(server)
    assert store.read_range("file", 0, 10) == DATA[:10]
    server.faults = ["change"]
    with pytest.raises(ShardDamaged, match="changed on the server"):
        store.read_range("file", 10, 10)


def test_object_that_changes_within_one_interrupted_range_is_damage(server: Flaky) -> None:
    server.faults = ["truncate", "change"]
    with pytest.raises(ShardDamaged, match="changed on the server"):
        store_of(server).read_range("file", 0, 1000)


def test_short_missing_and_forbidden_files_are_told_apart(server: Flaky) -> None:
    store = store_of(server)
    for offset, length in ((len(DATA) - 5, 6), (len(DATA), 1), (10 * len(DATA), 1)):
        with pytest.raises(ShardDamaged, match="cut short"):
            store.read_range("file", offset, length)
    with pytest.raises(FileMissing, match="is missing"):
        store.read_range("absent", 0, 1)
    with pytest.raises(ShardDamaged, match="more than 100 bytes"):
        store.read("file", 100)
    server.login = "user:word"
    with pytest.raises(StorageFailed, match="status 401"):
        store.read("file", len(DATA))


def test_server_without_ranges_is_named_as_such(server: Flaky) -> None:
    server.faults = ["no ranges"]
    with pytest.raises(StorageFailed, match="range requests, such as `shardkit serve`"):
        store_of(server).read_range("file", 5, 10)


def test_nobody_listening_is_a_clear_error() -> None:
    with pytest.raises(StorageFailed, match=r"cannot read http://127\.0\.0\.1:9/data/file: "):
        HttpStore("http://127.0.0.1:9/data", QUICK).read_range("file", 0, 1)


def test_login_and_query_are_sent_and_never_shown(server: Flaky) -> None:
    server.login = "user:canary"
    host = server.url.removeprefix("http://")
    store = HttpStore(f"http://user:canary@{host}/data/?token=canary", QUICK)
    assert store.read_range("file", 0, 3) == DATA[:3]
    assert server.requests[0][0] == "/data/file?token=canary"
    assert "canary" not in store.url
    for fault in ("500", "reset", "truncate", "wrong range", "hang", "403", "no ranges", "400"):
        server.faults = [fault] * 4
        with pytest.raises(ShardkitError) as caught:
            store.read_range("file", 0, 900)
        chain: BaseException | None = caught.value
        assert "canary" not in str(chain)
        assert chain is not None
        assert chain.__suppress_context__ or "canary" not in str(chain.__context__)


def test_url_that_is_no_dataset_says_what_was_found(server: Flaky) -> None:
    with pytest.raises(NotADataset, match=r"found no manifest\.json"):
        read_manifest(store_of(server))
    (server.root / "data" / "manifest.json").write_text("<html>welcome</html>")
    with pytest.raises(NotADataset, match="welcome"):
        read_manifest(store_of(server))
    with pytest.raises(NotADataset, match="without a host"):
        open_store("http:///data")


def test_dataset_is_verified_over_http_and_damage_is_found(server: Flaky) -> None:
    root = server.root / "tiny"
    build_tiny(root)
    store = open_store(f"{server.url}/tiny")
    report = verify(store)
    assert (report.damages, report.samples, report.extras) == ((), 5, ())
    path = root / shard_path(read_manifest(store)[1].shards[0])
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    assert [damage.where for damage in verify(open_store(f"{server.url}/tiny")).damages]
    path.unlink()
    assert any("missing" in damage.message for damage in verify(open_store(f"{server.url}/tiny")).damages)


def test_pointer_may_change_while_the_store_is_open(server: Flaky) -> None:
    (server.root / "data" / "manifest.json").write_text("{}")
    store = store_of(server)
    assert store.read("manifest.json", 10) == b"{}"
    server.tag = '"new"'
    assert store.read("manifest.json", 10) == b"{}"


def read_in_child(store: HttpStore, queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(store.read_range("file", 7, 9))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_store_works_in_children_and_threads(server: Flaky, method: str) -> None:
    store = store_of(server, Patience())
    assert store.read_range("file", 0, 1) == DATA[:1]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(store, queue))
    child.start()
    assert queue.get(timeout=60) == DATA[7:16]
    child.join()
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: store.read_range("file", at, 50)})) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {at: DATA[at : at + 50] for at in range(8)}


def test_store_survives_pickling(server: Flaky) -> None:
    store: HttpStore = pickle.loads(pickle.dumps(store_of(server)))
    assert store.read_range("file", 1, 2) == DATA[1:3]


def nowhere(*args: object, **more: object) -> object:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_proxy_of_the_environment_is_used_but_not_for_this_machine(
    server: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    proxied = server.root / "http:" / "data.invalid"
    proxied.mkdir(parents=True)
    (proxied / "file").write_bytes(b"by proxy")
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:canary@"))
    assert HttpStore("http://data.invalid", QUICK).read_range("file", 0, 8) == b"by proxy"
    assert server.headers[-1]["proxy-authorization"].startswith("Basic ")
    assert store_of(server).read_range("file", 0, 3) == DATA[:3]
    assert "proxy-authorization" not in server.headers[-1]
    monkeypatch.setenv("no_proxy", "data.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(StorageFailed, match="NameResolutionError"):
        HttpStore("http://data.invalid", QUICK).read_range("file", 0, 8)
    monkeypatch.setenv("http_proxy", "socks5://user:canary@host:1")
    with pytest.raises(StorageFailed, match=r"proxy socks5://host:1 of the environment: wanted http") as caught:
        HttpStore("http://other.invalid", QUICK).read_range("file", 0, 8)
    assert "canary" not in str(caught.value)
