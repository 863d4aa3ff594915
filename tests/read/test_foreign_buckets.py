"""Tars that others made, in a bucket and on the hub: indexed once, read by ranges, every change noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.foreign import Indexing, index_tars
from shardkit.read.loader import open_loader
from tests.read.foreign import text_tars, write_tar
from tests.store.buckets import BUCKET, put, s3_server, use_environment
from tests.store.hub_server import TOKEN, hub_server


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tars(tmp_path: Path) -> list[Path]:
    (tmp_path / "data").mkdir()
    return text_tars(tmp_path / "data", [20, 13])


@pytest.fixture
def bucket(tars: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with s3_server() as port:
        put(port, BUCKET, b"")
        for path in tars:
            put(port, f"{BUCKET}/tars/{path.name}", path.read_bytes())
        use_environment(
            monkeypatch,
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_ACCESS_KEY_ID="AKIACANARY",
            AWS_SECRET_ACCESS_KEY="x",
        )
        yield port


def read(dataset: Dataset) -> list[tuple[str, dict[str, bytes]]]:
    return [(item.key, {name: bytes(data) for name, data in item.members.items()}) for item in dataset]


def test_tars_in_a_bucket_are_those_of_a_folder(bucket: int, tars: list[Path], tmp_path: Path) -> None:
    local = open_dataset(tars[0].parent / "shard-*.tar")
    url = f"s3://{BUCKET}/tars/shard-*.tar"
    dataset = open_dataset(url)
    assert (read(dataset), dataset.version) == (read(local), local.version)
    batches = list(open_loader(dataset, batch_size=4, seed=2))
    loader = open_loader(open_dataset(f"s3://{BUCKET}/tars/shard-{{000..001}}.tar"), batch_size=4, seed=2)
    loader.load_state_dict(batches[2].state)
    assert [[item.key for item in batch] for batch in loader] == [[item.key for item in b] for b in batches[3:]]
    made = index_tars(url, tmp_path / "out", Indexing())
    assert [entry.url for entry in made.manifest.shards] == [f"s3://{BUCKET}/tars/{path.name}" for path in tars]
    assert read(open_dataset(tmp_path / "out")) == read(local)
    write_tar(tars[1], [("new", {"txt": b"x"})])
    put(bucket, f"{BUCKET}/tars/{tars[1].name}", tars[1].read_bytes())
    assert open_dataset(url)[-1].key == "new"


def test_tars_on_the_hub_are_those_of_a_folder(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = open_dataset(tars[0].parent / "shard-*.tar")
    with hub_server(tmp_path) as server:
        use_environment(monkeypatch, HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)
        dataset = open_dataset("hf://datasets/owner/name/data/shard-*.tar")
        assert (read(dataset), dataset.version) == (read(local), local.version)
