"""No secret that a user gives, in URLs or the environment, comes out anywhere: output, errors, states, files, logs."""

from __future__ import annotations

import logging
import pickle
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shardkit.errors import ShardkitError
from shardkit.read.dataset import open_dataset
from shardkit.read.loader import open_loader
from shardkit.store.layout import shard_path
from shardkit.store.urls import open_store
from tests.cli.conftest import Command
from tests.read.foreign import text_tars
from tests.store.buckets import BUCKET, put, s3_server, use_environment
from tests.store.flaky import Flaky, flaky_server
from tests.store.hub_server import hub_server
from tests.store.made import build_tiny

CANARY = "canary"
LOGIN = "user:canaryword"
QUERY = "token=canarytoken&X-Amz-Signature=canarysignature&sig=canarysas&X-Amz-Credential=canaryid"


class Place(NamedTuple):
    """Where the data of a test lie: a URL of its folder, and a suffix that comes behind every path."""

    base: str
    suffix: str
    server: Flaky | None

    def url(self, path: str) -> str:
        return f"{self.base}/{path}{self.suffix}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    build_tiny(folder / "tiny", samples=5)
    build_tiny(folder / "broken", samples=5)
    entry = open_dataset(folder / "broken").manifest.shards[0]
    path = folder / "broken" / shard_path(entry)
    path.write_bytes(path.read_bytes()[:3000])
    (folder / "tars").mkdir()
    text_tars(folder / "tars", [3, 4])
    return folder


@pytest.fixture(scope="module")
def s3_port(root: Path) -> Iterator[int]:
    with s3_server() as port:
        put(port, BUCKET, b"")
        for path in root.rglob("*"):
            if path.is_file():
                put(port, f"{BUCKET}/{path.relative_to(root)}", path.read_bytes())
        yield port


@pytest.fixture(params=["http", "s3", "hf"])
def place(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The same folder behind each kind of server, with every secret that belongs to it."""
    if request.param == "http":
        with flaky_server(root) as server:
            server.login = LOGIN
            use_environment(monkeypatch)
            yield Place(server.url.replace("//", f"//{LOGIN}@"), f"?{QUERY}", server)
    elif request.param == "hf":
        with hub_server(root) as hub:
            use_environment(monkeypatch, HF_ENDPOINT=hub.url, HF_TOKEN="hf_canarytoken")
            hub.private = True
            yield Place("hf://datasets/owner/name", "", hub.cdn)
    else:
        settings = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{request.getfixturevalue('s3_port')}",
            "AWS_ACCESS_KEY_ID": "CANARYID",
            "AWS_SECRET_ACCESS_KEY": "canarysecret",
            "AWS_SESSION_TOKEN": "canarysession",
        }
        use_environment(monkeypatch, **settings)
        yield Place(f"s3://{BUCKET}", "", None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path / "cache"))


def assert_clean(*texts: object) -> None:
    for text in texts:
        for line in str(text).splitlines():
            assert CANARY not in line.lower()


def assert_no_file_holds_it(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert CANARY.encode() not in path.read_bytes().lower(), path
        assert CANARY not in str(path)


def test_commands_print_no_secret(shardkit: Command, place: Place, tmp_path: Path, root: Path) -> None:
    tiny, broken, absent = place.url("tiny"), place.url("broken"), place.url("absent")
    key = open_dataset(root / "tiny")[0].key
    local = tmp_path / "local"
    shutil.copytree(root / "broken", local)
    pattern = place.url("tars/shard-{000..001}.tar")
    commands: list[tuple[int, list[str]]] = [
        (0, ["verify", tiny]), (4, ["verify", tiny, "--deep"]), (4, ["verify", broken]), (2, ["verify", absent]),
        (0, ["stats", tiny, "--json"]), (2, ["stats", absent]), (0, ["ls", tiny]), (0, ["cat", tiny, key]),
        (0, ["report", tiny, "--out", str(tmp_path / "page.html")]), (4, ["verify", local.as_posix()]),
        (0, ["repair", local.as_posix(), "--mirror", tiny]),
        (0, ["index", pattern, "--out", str(tmp_path / "index"), "--workers", "0", "--json"]),
        (0, ["stats", pattern]), (0, ["ls", pattern]), (2, ["stats", place.url("tars/absent-{0..1}.tar")]),
    ]  # fmt: skip
    for code, arguments in commands:
        outcome = shardkit(*arguments)
        assert_clean(outcome.out, outcome.err)
        assert outcome.code == code, (arguments, outcome)
    assert_no_file_holds_it(tmp_path)


def test_errors_and_their_causes_hold_no_secret(place: Place, root: Path) -> None:
    asks = [
        lambda: open_dataset(place.url("absent")),
        lambda: open_dataset(place.url("tars")),
        lambda: list(open_dataset(place.url("broken"))),
        lambda: open_dataset(place.url("tiny"), version="0" * 64),
        lambda: open_dataset(place.url("tars/shard-{0..1.tar")),
        lambda: open_dataset(place.url("tars/shard-{000..000}{,}.tar")),
        lambda: open_dataset(place.url("tars/absent-{0..1}.tar")),
        lambda: open_dataset([place.url("tiny"), place.url("tiny")]),
    ]
    for ask in asks:
        with pytest.raises(ShardkitError) as caught:
            ask()
        assert_clean("".join(traceback.format_exception(caught.value)), repr(caught.value), caught.value.args)


@pytest.mark.parametrize("place", ["http", "hf"], indirect=True)
def test_trouble_of_the_server_shows_no_secret(place: Place) -> None:
    assert place.server is not None
    dataset = open_dataset(place.url("tiny"))
    for fault in ("403", "401", "400", "no ranges"):
        place.server.faults = [fault] * 20
        with pytest.raises(ShardkitError) as caught:
            dataset.store.read_range(shard_path(dataset.manifest.shards[0]), 1, 3)
        assert_clean("".join(traceback.format_exception(caught.value)))
        place.server.faults = []


def test_states_and_reprs_hold_no_secret(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for url in (place.url("tiny"), place.url("tars/shard-{000..001}.tar")):
        dataset = open_dataset(url)
        loader = open_loader(dataset, batch_size=2, lanes=2)
        with caplog.at_level(logging.DEBUG):
            for batch in loader:
                assert_clean(batch.state, repr(batch), [repr(item) for item in batch])
                break
        assert_clean(loader.state_dict(), repr(dataset), repr(loader), dataset.url, dataset.manifest, dataset.store.url)
        assert_clean(caplog.text)
        assert "GET" in caplog.text or place.server is None


@pytest.mark.parametrize("place", ["s3", "hf"], indirect=True)
def test_keys_of_the_environment_are_in_no_pickle(place: Place) -> None:
    store = open_store(place.url("tiny"))
    assert store.read("manifest.json", 1 << 20)
    assert CANARY.encode() not in pickle.dumps(store).lower()
    assert CANARY.encode() not in pickle.dumps(open_dataset(place.url("tiny"))).lower()
