"""Reading from S3 (moto's server) and through the same layer from GCS and Azure: exact bytes or a clear error."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from shardkit.errors import FileMissing, ShardDamaged, ShardkitError, SpecError, StorageFailed
from shardkit.read.dataset import open_dataset
from shardkit.read.loader import open_loader
from shardkit.store.objects import ObjectStore
from shardkit.store.patience import Patience
from shardkit.store.patterns import expand
from shardkit.store.urls import ByteStore, open_store
from shardkit.store.verify import verify
from tests.store.buckets import BUCKET, Cloud, Proxy, put, running, s3_server, use_environment
from tests.store.made import build_tiny

DATA = random.Random(4).randbytes(10_240)
NAMES = ("data/file", "data/é b+c%20.tar", "data/[x]#~.tar", "data/sub/deep.tar", "data/sub/er/deep.tar", "data2/file")
QUICK = Patience(deadline_seconds=2.0, silence_seconds=0.3, attempts=4, first_pause_seconds=0.01)
LONG = Patience(deadline_seconds=60.0, silence_seconds=0.7, first_pause_seconds=0.01)
SECRET = "canaryoftheaccesskey"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    build_tiny(root, samples=9)
    return root


@pytest.fixture(scope="module")
def s3_port(tiny: Path) -> Iterator[int]:
    with s3_server() as port:
        put(port, BUCKET, b"")
        for name in NAMES:
            put(port, f"{BUCKET}/{quote(name)}", DATA)
        for path in sorted(tiny.rglob("*")):
            if path.is_file():
                put(port, f"{BUCKET}/tiny/{path.relative_to(tiny)}", path.read_bytes())
        yield port


@pytest.fixture
def proxy(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with running(Proxy(s3_port)) as server:
        use_environment(
            monkeypatch, AWS_ENDPOINT_URL=server.url, AWS_ACCESS_KEY_ID="AKIACANARY", AWS_SECRET_ACCESS_KEY=SECRET
        )
        yield server


def store_of(patience: Patience = LONG) -> ObjectStore:
    return ObjectStore(f"s3://{BUCKET}/data/", patience)


def test_ranges_and_whole_files_are_exact(proxy: Proxy) -> None:
    store = store_of()
    assert store.read_range("file", 300, 1000) == DATA[300:1300]
    assert store.read("file", len(DATA)) == DATA
    assert store.read_range("file", len(DATA) - 1, 1) == DATA[-1:]
    assert store.read_range("file", 5, 0) == b""
    assert store.size("file") == len(DATA)
    assert store.url == f"s3://{BUCKET}/data"
    assert (store.requests, store.bytes_read) == (4, 1000 + len(DATA) + 1)
    assert proxy.requests[0] == f"/{BUCKET}/data/file bytes=300-1299"


def test_neighbours_travel_in_one_request(proxy: Proxy) -> None:
    assert store_of().read_ranges("file", [(100, 10), (0, 50), (9000, 3)], gap_bytes=100) == [
        DATA[100:110], DATA[:50], DATA[9000:9003],
    ]  # fmt: skip
    assert [request.partition(" ")[2] for request in proxy.requests] == ["bytes=0-109", "bytes=9000-9002"]


def test_names_are_listed_deep_or_flat_and_read_as_they_are_written(proxy: Proxy) -> None:
    store = store_of()
    deep = sorted(name.removeprefix("data/") for name in NAMES if name.startswith("data/"))
    assert store.list_files() == deep
    assert store.list_files(deep=False) == ["[x]#~.tar", "file", "sub/", "é b+c%20.tar"]
    assert store.list_files("sub/") == ["sub/deep.tar", "sub/er/deep.tar"]
    assert store.list_files("absent") == []
    for name in deep:
        assert store.read_range(name, 7, 9) == DATA[7:16]


def test_globs_are_answered_by_listing(proxy: Proxy) -> None:
    assert expand(f"s3://{BUCKET}/data/*/*.tar") == [f"s3://{BUCKET}/data/sub/deep.tar"]
    assert len(expand(f"s3://{BUCKET}/d*/**/{{deep,é*}}.tar")) == 3
    with pytest.raises(SpecError, match="matches no file"):
        expand(f"s3://{BUCKET}/data/*.zip")


def test_all_pages_of_a_listing_come(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    assert len(store_of().list_files()) == 5
    assert len(proxy.requests) == 3


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "truncate", "hang", "other range", "whole"])
def test_passing_trouble_is_survived(proxy: Proxy, fault: str) -> None:
    proxy.faults = [fault, fault]
    assert store_of().read_range("file", 300, 1000) == DATA[300:1300]
    proxy.faults = [fault, fault] if fault not in ("whole", "other range") else []
    assert store_of().read("file", len(DATA)) == DATA
    proxy.faults = [fault] if fault.isdigit() or fault == "reset" else []
    assert store_of().size("file") == len(DATA)


def test_listing_survives_trouble(proxy: Proxy) -> None:
    proxy.faults = ["503", "reset", "500"]
    assert len(store_of().list_files()) == 5


def test_interrupted_range_goes_on_where_it_stopped(proxy: Proxy) -> None:
    proxy.faults = ["truncate"]
    assert store_of().read_range("file", 0, 10_000) == DATA[:10_000]
    first, second = proxy.requests
    assert first.endswith("bytes=0-9999")
    assert int(second.rpartition("bytes=")[2].partition("-")[0]) in (0, 5000)


@pytest.mark.parametrize("fault", ["500", "reset", "truncate", "trickle", "hang"])
def test_lasting_trouble_is_a_clear_error_within_the_deadline(proxy: Proxy, fault: str) -> None:
    proxy.faults = [fault] * 100
    started = time.monotonic()
    with pytest.raises(StorageFailed, match=f"cannot read s3://{BUCKET}/data/file: .*run the same command again"):
        store_of(QUICK).read_range("file", 0, 5000)
    assert time.monotonic() - started < 20


def test_object_that_changes_in_between_is_damage(proxy: Proxy) -> None:
    store = store_of()
    assert store.read_range("file", 0, 10) == DATA[:10]
    proxy.faults = ["changed"]
    with pytest.raises(ShardDamaged, match="changed in the store"):
        store.read_range("file", 10, 10)


def test_short_missing_and_forbidden_files_are_told_apart(proxy: Proxy) -> None:
    store = store_of()
    for offset, length in ((len(DATA) - 5, 6), (len(DATA), 1), (10 * len(DATA), 1)):
        with pytest.raises(ShardDamaged, match="cut short"):
            store.read_range("file", offset, length)
    for ask in (lambda: store.read_range("absent", 0, 1), lambda: store.size("absent")):
        with pytest.raises(FileMissing, match=r"data/absent is missing \(status 404"):
            ask()
    with pytest.raises(FileMissing, match="there is no bucket nobody"):
        ObjectStore("s3://nobody/x").read("file", 1)
    with pytest.raises(ShardDamaged, match="at most 100"):
        store.read("file", 100)
    for status in ("403", "401"):
        proxy.faults = [status]
        with pytest.raises(StorageFailed, match=f"status {status} .*not allowed; set AWS_ACCESS_KEY_ID"):
            store.read_range("file", 0, 1)
        assert proxy.faults == []
    proxy.faults = ["400"]
    with pytest.raises(StorageFailed, match="status 400"):
        store.read_range("file", 0, 1)


def test_no_secret_is_in_errors_states_or_names(proxy: Proxy) -> None:
    store = store_of(QUICK)
    for fault in ("500", "reset", "truncate", "hang", "403", "400", "changed"):
        store.read_range("file", 0, 1)
        proxy.faults = [fault] * 5
        with pytest.raises(ShardkitError) as caught:
            store.read_range("file", 0, 9000)
        proxy.faults = []
        chain = f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"
        assert "canary" not in chain.lower()
        assert "signature" not in chain.lower().replace("aws_skip_signature", "")
    assert b"canary" not in pickle.dumps(store).lower()
    assert "canary" not in (store.url + repr(store)).lower()


@pytest.mark.parametrize("url", ["s3://key:canary@bucket/a", "az://c/a?sig=canary", "s3://", "s3:///a", "s3://b_?/x"])
def test_logins_queries_and_bad_buckets_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(SpecError, match=r"wanted (s3|az)://") as caught:
        open_store(url)
    assert "canary" not in str(caught.value)


def test_dataset_is_opened_verified_read_and_resumed(proxy: Proxy, tiny: Path) -> None:
    proxy.faults = ["503"]
    dataset = open_dataset(f"s3://{BUCKET}/tiny")
    local = open_dataset(tiny)
    assert dataset.version == local.version
    assert verify(dataset.store).damages == ()
    fields = {"batch_size": 2, "lanes": 2, "seed": 5}
    wanted = [[item.key for item in batch] for batch in open_loader(local, **fields)]
    loader = open_loader(dataset, **fields)
    keys, state = [], {}
    for batch in loader:
        keys.append([item.key for item in batch])
        if len(keys) == 2:
            state = loader.state_dict()
            break
    proxy.faults = ["500", "reset"]
    again = open_loader(pickle.loads(pickle.dumps(dataset)), **fields)
    again.load_state_dict(state)
    assert keys + [[item.key for item in batch] for batch in again] == wanted
    assert "canary" not in str(state).lower()


def read_in_child(store: ByteStore, queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(store.read_range("file", 7, 9))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_store_works_in_children_after_its_parent_used_it(proxy: Proxy, method: str) -> None:
    store = store_of()
    assert store.read_range("file", 0, 1) == DATA[:1]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(store, queue))
    child.start()
    try:
        assert queue.get(timeout=40) == DATA[7:16]
        child.join(timeout=40)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()


def test_grandchildren_and_threads_read_too(proxy: Proxy) -> None:
    store = store_of()
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: store.read_range("file", at, 50)})) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {at: DATA[at : at + 50] for at in range(8)}
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        good = store.read_range("file", 1, 3) == DATA[1:4]
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(30)
            os._exit(0 if good and store.read_range("file", 2, 3) == DATA[2:5] else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert os.waitpid(child, 0)[1] == 0


def test_bucket_in_another_region_is_found(proxy: Proxy) -> None:
    proxy.faults = ["other region"] * 3
    assert store_of().read_range("file", 0, 3) == DATA[:3]
    assert "/eu-north-1/" in proxy.headers[-1]["authorization"]


def test_profile_gives_credentials_and_region(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed: pip install 'shardkit[cloud]'")
    (tmp_path / "credentials").write_text("[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = canary\n")
    (tmp_path / "config").write_text("[profile other]\nregion = eu-west-3\n")
    settings = {"AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/credentials", "AWS_CONFIG_FILE": f"{tmp_path}/config"}
    use_environment(monkeypatch, AWS_ENDPOINT_URL=proxy.url, AWS_PROFILE="other", **settings)
    assert store_of().read_range("file", 0, 3) == DATA[:3]
    assert "AKIAOTHER/" in proxy.headers[-1]["authorization"]
    assert "/eu-west-3/" in proxy.headers[-1]["authorization"]
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(SpecError, match="profile absent cannot be used"):
        store_of().read_range("file", 0, 3)


def test_public_bucket_is_read_without_a_signature(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, AWS_ENDPOINT_URL=proxy.url, AWS_SKIP_SIGNATURE="true")
    with pytest.raises(StorageFailed, match="status 403"):  # the bucket is private
        store_of().read_range("file", 0, 3)
    assert "authorization" not in proxy.headers[-1]


def test_plain_http_to_another_machine_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, AWS_ENDPOINT_URL="http://user:canary@storage.example:9000")
    with pytest.raises(SpecError, match=r"http://storage\.example is neither https .* AWS_ALLOW_HTTP=true"):
        store_of().read_range("file", 0, 1)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shardkit[cloud]'")
    for name in ("data/a b.tar", "data/c.tar", "data/d.tar", "data/sub/e.tar", "data/sub/f.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(DATA)
    build_tiny(tmp_path / "tiny")
    with running(Cloud(tmp_path)) as server:
        yield server


@pytest.mark.parametrize("scheme", ["gs", "az", "az by connection string"])
def test_gcs_and_azure_are_read_through_the_same_layer(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    key = "Y2FuYXJ5"
    settings = {
        "gs": {"STORAGE_EMULATOR_HOST": cloud.url.removeprefix("http://")},
        "az": {
            "AZURE_STORAGE_ACCOUNT": "account",
            "AZURE_STORAGE_SAS_TOKEN": "sv=2023&sig=canary",
            "AZURE_STORAGE_ENDPOINT": f"{cloud.url}/account",
        },
        "az by connection string": {
            "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=account;AccountKey={key};BlobEndpoint={cloud.url}/account;"
        },
    }[scheme]
    use_environment(monkeypatch, **settings)
    base = f"{scheme[:2]}://{BUCKET}"
    store = open_store(f"{base}/data")
    assert store.read_range("a b.tar", 300, 1000) == DATA[300:1300]
    assert store.read("c.tar", len(DATA)) == DATA
    assert store.size("c.tar") == len(DATA)
    assert store.list_files() == ["a b.tar", "c.tar", "d.tar", "sub/e.tar", "sub/f.tar"]
    assert store.list_files(deep=False) == ["a b.tar", "c.tar", "d.tar", "sub/"]
    assert expand(f"{base}/data/*/[ef].tar") == [f"{base}/data/sub/e.tar", f"{base}/data/sub/f.tar"]
    with pytest.raises(FileMissing, match="is missing") as caught:
        store.read("absent", 1)
    assert "canary" not in f"{caught.value} {caught.value.__context__}"
    with pytest.raises(ShardDamaged, match="cut short"):
        store.read_range("c.tar", len(DATA) - 1, 2)
    assert verify(open_store(f"{base}/tiny")).damages == ()
    assert (scheme == "az") == ("sig=canary" in cloud.requests[-1])


def test_azure_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'shardkit[cloud]'")
    use_environment(monkeypatch)
    with pytest.raises(SpecError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container/a").read("file", 1)
