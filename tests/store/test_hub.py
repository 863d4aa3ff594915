"""Reading from a Hub's repository: one commit, all pages, exact bytes, and a token that only the Hub sees."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shardkit.errors import FileMissing, ShardDamaged, SpecError, StorageFailed
from shardkit.read.dataset import open_dataset
from shardkit.read.loader import open_loader
from shardkit.store.hub import HubStore, parse_hub
from shardkit.store.hub_login import find_endpoint, find_token
from shardkit.store.patience import Patience
from shardkit.store.patterns import expand
from shardkit.store.urls import open_store
from shardkit.store.verify import verify
from tests.store.buckets import use_environment
from tests.store.hub_server import COMMIT, LATER, TOKEN, Hub, hub_server
from tests.store.made import build_tiny

DATA = random.Random(9).randbytes(5000)
URL = "hf://datasets/owner/name"
QUICK = Patience(deadline_seconds=30, silence_seconds=0.7, attempts=6, first_pause_seconds=0.01)
NAMES = ("data/é b#%.tar", "data/a.tar", "data/note.txt", "data/sub/c.tar", "data/sub/d.tar", "empty.txt", "top.tar")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"" if name == "empty.txt" else DATA)
    with hub_server(tmp_path) as server:
        use_environment(monkeypatch, HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)
        yield server


def test_exports_that_are_no_text_are_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"a\xff": 1}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(StorageFailed, match="no JSON"):
            HubStore(URL, QUICK, COMMIT, f"http://127.0.0.1:{server.server_address[1]}").exports()
    finally:
        server.shutdown()
        server.server_close()


def store_of(folder: str = "/data") -> HubStore:
    return HubStore(URL + folder, QUICK)


def test_files_are_read_exactly_there_and_behind_a_redirect(hub: Hub) -> None:
    store = store_of()
    for name in ("a.tar", "é b#%.tar", "note.txt"):
        assert store.read_range(name, 300, 1000) == DATA[300:1300]
        assert store.read(name, len(DATA)) == DATA
        assert store.size(name) == len(DATA)
        assert store.read_ranges(name, [(4000, 5), (0, 9)]) == [DATA[4000:4005], DATA[:9]]
    assert store_of("").size("empty.txt") == 0
    assert store.url == f"{URL}/data"
    with pytest.raises(ShardDamaged, match="cut short"):
        store.read_range("a.tar", 4999, 2)


def test_token_is_for_the_hub_and_not_for_where_it_redirects_to(hub: Hub) -> None:
    store_of().read_range("a.tar", 0, 10)
    assert all(headers["authorization"] == f"Bearer {TOKEN}" for headers in hub.headers)
    assert len(hub.cdn.requests) == 1
    assert "authorization" not in hub.cdn.headers[0]
    assert TOKEN not in str((hub.cdn.requests, hub.cdn.headers))


def test_file_s_address_is_asked_for_once_and_again_when_it_has_run_out(hub: Hub) -> None:
    store = store_of()
    for at in range(5):
        assert store.read_range("a.tar", at, 10) == DATA[at : at + 10]
    assert sum("/resolve/" in path for path in hub.requests) == 1
    assert len(hub.cdn.requests) == 5
    hub.signature = "two"
    hub.cdn.faults = ["403"]
    assert store.read_range("a.tar", 7, 10) == DATA[7:17]
    assert sum("/resolve/" in path for path in hub.requests) == 2
    assert hub.cdn.requests[-1][0].endswith("Signature=canarytwo")
    hub.cdn.faults = ["reset"]
    assert store.read_range("a.tar", 7, 10) == DATA[7:17]
    assert sum("/resolve/" in path for path in hub.requests) == 3


def test_revision_is_pinned_to_its_commit_when_it_is_first_used(hub: Hub) -> None:
    store = store_of()
    store.read_range("a.tar", 0, 1)
    hub.head = LATER
    again: HubStore = pickle.loads(pickle.dumps(store))
    for one in (store, again):
        one.read_range("note.txt", 0, 1)
        one.list_files()
    assert sum("/revision/" in path for path in hub.requests) == 1
    assert all(COMMIT in path for path in hub.requests if "/revision/" not in path)
    assert store_of().pin() == LATER
    for revision in ("v1.0", "refs%2Fpr%2F1", "refs/pr/1", COMMIT):
        assert HubStore(f"{URL}@{revision}/data").pin() == COMMIT


def test_all_pages_are_listed_deep_or_flat(hub: Hub) -> None:
    store = store_of()
    deep = sorted(name.removeprefix("data/") for name in NAMES if name.startswith("data/"))
    assert store.list_files() == deep
    assert store.list_files(deep=False) == sorted(["a.tar", "note.txt", "sub/", "é b#%.tar"])
    assert store.list_files("sub") == ["sub/c.tar", "sub/d.tar"]
    assert store.list_files("absent") == []
    assert sum("cursor=3" in path for path in hub.requests) == 2


def test_names_of_the_hub_are_given_with_their_commit(hub: Hub) -> None:
    pinned = f"{URL}@{COMMIT}"
    assert expand(f"{URL}/data/*/*.tar") == [f"{pinned}/data/sub/c.tar", f"{pinned}/data/sub/d.tar"]
    assert expand(f"{URL}@v1.0/{{top,data/a}}.tar") == [f"{pinned}/top.tar", f"{pinned}/data/a.tar"]
    before = len(hub.requests)
    assert expand(f"{URL}/data/{{a..z}}.tar")[25] == f"{pinned}/data/z.tar"
    assert len(hub.requests) == before + 1


def test_models_are_read_too(hub: Hub) -> None:
    for url in ("hf://owner/model", "hf://models/owner/model"):
        assert open_store(url).read_range("top.tar", 0, 4) == DATA[:4]


def test_tag_is_the_hub_s_own_digest(hub: Hub) -> None:
    assert store_of().tag("a.tar") == '"data/a.tar"'
    assert store_of().tag("note.txt") == '"one"'


def test_passing_trouble_is_survived(hub: Hub) -> None:
    hub.faults = [503, 429, 500]
    assert store_of().read_range("a.tar", 0, 9) == DATA[:9]
    hub.faults = [500, 502]
    assert len(store_of().list_files()) == 5
    for fault in ("500", "reset", "truncate", "hang"):
        hub.cdn.faults = [fault]
        assert store_of().read_range("a.tar", 0, 900) == DATA[:900]


def test_refusals_say_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileMissing, match=r"data/absent\.tar is missing"):
        store_of().read("absent.tar", 1)
    with pytest.raises(FileMissing, match="the revision does not exist"):
        HubStore(f"{URL}@nothing", QUICK).read("a", 1)
    with pytest.raises(FileMissing, match="the repository does not exist"):
        HubStore("hf://datasets/owner/other", QUICK).list_files()
    hub.gated = True
    with pytest.raises(
        StorageFailed, match=r"status 403, the repository is gated: accept its conditions at .*owner/name"
    ):
        store_of().read("a.tar", 1)
    hub.gated, hub.private = False, True
    monkeypatch.setenv("HF_TOKEN", "hf_canarywrong")
    with pytest.raises(StorageFailed, match="status 401: the token may not read it") as caught:
        store_of().read("a.tar", 1)
    assert "canary" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(StorageFailed, match="set HF_TOKEN"):
        store_of().list_files()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StorageFailed, match="HF_HUB_OFFLINE is set"):
        store_of().read("a.tar", 1)


def test_next_page_on_another_server_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "url", property(lambda self: self.cdn.url))
    with pytest.raises(StorageFailed, match="another server"):
        store_of().list_files()
    assert hub.cdn.requests == []


def test_dataset_is_opened_verified_read_and_resumed(hub: Hub) -> None:
    build_tiny(hub.root / "tiny", samples=9)
    local, dataset = open_dataset(hub.root / "tiny"), open_dataset(f"{URL}/tiny")
    assert dataset.version == local.version
    assert verify(dataset.store).damages == ()
    fields = {"batch_size": 2, "lanes": 2, "seed": 5}
    wanted = [[item.key for item in batch] for batch in open_loader(local, **fields)]
    loader = open_loader(dataset, **fields)
    first = [item.key for item in next(iter(loader))]
    again = open_loader(pickle.loads(pickle.dumps(dataset)), **fields)
    again.load_state_dict(loader.state_dict())
    assert [first, *([item.key for item in batch] for batch in again)] == wanted
    assert "canary" not in str(loader.state_dict())
    assert b"canary" not in pickle.dumps(dataset)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("hf://datasets/o/n", ("datasets", "o/n", "", "")),
        ("hf://datasets/o/n@main/a/b", ("datasets", "o/n", "main", "a/b")),
        ("hf://datasets/o/n@refs/convert/parquet/a", ("datasets", "o/n", "refs/convert/parquet", "a")),
        ("hf://datasets/o/n@refs%2Fpr%2F1/a", ("datasets", "o/n", "refs/pr/1", "a")),
        ("hf://o/n/a/", ("models", "o/n", "", "a")),
    ],
)
def test_urls_name_kind_repository_revision_and_folder(url: str, parts: tuple[str, ...]) -> None:
    place = parse_hub(url)
    assert place == parts
    assert parse_hub(place.url(place.revision)) == place


@pytest.mark.parametrize(
    "url", ["hf://datasets/o", "hf://", "hf://spaces/o/n", "hf://user:canary@o/n/a", "hf://datasets/o/../../x", "hf://a/b?c=canary"]
)  # fmt: skip
def test_urls_that_name_no_repository_are_refused(url: str) -> None:
    with pytest.raises(SpecError, match=r"wanted hf://") as caught:
        open_store(url)
    assert "canary" not in str(caught.value)


def test_token_and_endpoint_are_found_where_the_hub_s_tools_keep_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_file\n")
    assert find_token({"HF_HOME": str(tmp_path)}) == "hf_file"
    assert find_token({"HF_TOKEN_PATH": f"{tmp_path}/token"}) == "hf_file"
    assert find_token({"HF_HOME": str(tmp_path), "HF_TOKEN": " hf_one "}) == "hf_one"
    assert find_token({"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}) == ""
    assert find_token({"HF_HOME": "/nonexistent", "HF_TOKEN": "a\nb: c"}) == ""
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "token").write_text("hf_home")
    assert find_token({"HOME": str(tmp_path)}) == "hf_home"
    assert find_endpoint({}) == "https://huggingface.co"
    assert find_endpoint({"HF_ENDPOINT": "https://mirror.example/"}) == "https://mirror.example"
    for wrong in ("ftp://a", "host", "https://user:canary@host"):
        with pytest.raises(SpecError) as caught:
            find_endpoint({"HF_ENDPOINT": wrong})
        assert "canary" not in str(caught.value)
