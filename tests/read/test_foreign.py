"""Tars that others made: the samples that webdataset reads, indexed once, read like ours."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import random
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shardkit.errors import (
    ShardDamaged,
    SpecError,
    StorageFailed,
)
from shardkit.read import foreign
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.diskcache import cache_folder
from shardkit.read.foreign import Indexing, index_tars
from shardkit.read.loader import open_loader
from shardkit.read.serve import serve_folder
from shardkit.read.tar_set import is_tars, short_paths
from shardkit.store.index import CHUNK_BYTES, LONG_BYTES, blake3_128
from shardkit.store.tar_index import split_name
from tests.read.foreign import of_webdataset, text_tars, write_tar
from tests.read.made import make_dataset, numbered
from tests.store.flaky import flaky_server
from tests.store.hostile import info, made_tar


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def samples_of(dataset: Dataset) -> list[tuple[str, dict[str, bytes]]]:
    return [(item.key, {name: bytes(data) for name, data in item.members.items()}) for item in dataset]


PART = st.text(alphabet="aB.é_", min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(PART, min_size=1, max_size=4))
@example(["____", "."])
def test_names_split_as_webdataset_splits_them(parts: list[str]) -> None:
    from webdataset.tariterators import base_plus_ext, tar_file_iterator

    name = "/".join(parts)
    key, extension = base_plus_ext(name)
    skipped = re.match(inspect.signature(tar_file_iterator).parameters["skip_meta"].default, name)
    assert split_name(name) == (None if key is None or skipped else (key, extension.lower()))


NAMES = {
    "plain": ["a.jpg", "a.txt", "b.jpg", "b.txt"],
    "dots in members": ["a.left.jpg", "a.right.jpg", "a.seg.v2.png", "b.left.jpg"],
    "dots in folders": ["v1.0/a.jpg", "v1.0/a.txt", "v1.0/b.jpg", "v2/a.jpg"],
    "upper case": ["a.JPG", "a.Txt", "B.jpg"],
    "dots before": ["./a.jpg", "./a.txt", "./d/b.jpg"],
    "files of no sample": ["README", "a.jpg", "LICENSE", "a.txt", "__meta__/x.json", "__index__", "b.jpg", "x/NOTES"],
    "hidden files": ["d/.a.jpg", "d/b.jpg", ".c.jpg", "e.f/.g.jpg", "h.jpg"],
    "spaces and letters": ["ä ö.jpg", "ä ö.txt", "日本.jpg"],
    "long names": ["d" * 90 + "/" + "n" * 120 + ".jpg", "d" * 90 + "/" + "n" * 120 + ".txt"],
    "nothing": ["README"],
}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("case", NAMES)
def test_samples_are_those_of_webdataset(tmp_path: Path, case: str, form: int) -> None:
    if case == "long names" and form == tarfile.USTAR_FORMAT:
        return
    draw = random.Random(case)
    members = [(info(name, mtime=1.5 if form == tarfile.PAX_FORMAT else 0), draw.randbytes(9)) for name in NAMES[case]]
    members.insert(1, (info("d", type=tarfile.DIRTYPE), b""))
    path = tmp_path / "shard.tar"
    path.write_bytes(made_tar(*members, form=form))
    wanted = of_webdataset(path)
    if not wanted:
        with pytest.raises(SpecError, match="no sample"):
            open_dataset(path)
        return
    dataset = open_dataset(path)
    assert samples_of(dataset) == wanted
    assert [(item.key, dict(item.members)) for item in map(dataset.__getitem__, range(len(dataset)))] == wanted
    assert not dataset.verify().damages


def test_tars_by_webdatasets_writer_are_read_as_it_reads_them(tmp_path: Path) -> None:
    paths = text_tars(tmp_path, [40, 0, 1, 33])
    dataset = open_dataset(str(tmp_path / "shard-{000..003}.tar"))
    assert samples_of(dataset) == [sample for path in paths for sample in of_webdataset(path)]
    assert (len(dataset), dataset.manifest.name) == (74, "shard")
    assert [entry.url for entry in dataset.manifest.shards] == [path.name for path in paths]
    assert pickle.loads(pickle.dumps(dataset))[73].key == "s0073"
    assert len({item.key for batch in open_loader(dataset, batch_size=4, lanes=2) for item in batch}) == 74 - 74 % 4


def test_frames_of_ours_are_read_without_our_manifest(tmp_path: Path) -> None:
    root = tmp_path / "ours"
    make_dataset(root, numbered([30, 7]), codec="tar.zst", block=4)
    ours = open_dataset(root)
    theirs = open_dataset(str(root / "shards" / "**" / "*.tar.zst"))
    by_key = {item.key: item for item in ours}
    assert {item.key for item in theirs} == set(by_key)
    for item in theirs:
        assert item.members == by_key[item.key].members
        assert item.sample == by_key[item.key].sample
    assert {entry.block_samples for entry in theirs.manifest.shards} == {4}
    assert not theirs.verify().damages


@pytest.mark.parametrize("remote", [False, True])
def test_every_state_resumes_exactly_also_after_indexing_again(tmp_path: Path, remote: bool) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    text_tars(tars, [30, 17])
    with serve_folder(tars) as server:
        pattern = f"{server.url if remote else tars}/shard-{{000..001}}.tar"
        dataset = open_dataset(pattern)
        batches = list(open_loader(dataset, batch_size=5, lanes=2, seed=3))
        for at in range(0, len(batches) - 1, 3):
            loader = open_loader(open_dataset(pattern), batch_size=5, lanes=2, seed=3)
            loader.load_state_dict(batches[at].state)
            assert [[item.key for item in batch] for batch in loader] == [
                [item.key for item in batch] for batch in batches[at + 1 :]
            ]


def test_a_cache_folder_that_cannot_be_written_says_how_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = text_tars(tmp_path, [5])
    monkeypatch.setenv("SHARDKIT_CACHE", str(path / "cache"))
    with pytest.raises(StorageFailed, match="name another by SHARDKIT_CACHE"):
        open_dataset(path)


def test_repair_writes_no_tar_that_others_made(tmp_path: Path) -> None:
    from shardkit.store.repair import repair
    from shardkit.store.urls import open_store

    (path,) = text_tars(tmp_path, [5])
    good = path.read_bytes()
    index_tars(path, tmp_path / "out", Indexing())
    shutil.copytree(tmp_path / "out", tmp_path / "mirror" / "out")
    (tmp_path / "mirror" / "shard-000.tar").write_bytes(good)
    path.write_bytes(good[:-512])
    report = repair(tmp_path / "out", [open_store(tmp_path / "mirror" / "out")])
    assert path.read_bytes() == good[:-512]
    assert [left.path for left in report.left] == ["../shard-000.tar"]
    assert "shardkit index" in report.left[0].reason
    path.write_bytes(good)
    assert not repair(tmp_path / "out").left
    next((tmp_path / "out" / "indexes").rglob("*.idx")).unlink()
    assert "shardkit index" in repair(tmp_path / "out").left[0].reason
    assert index_tars(path, tmp_path / "out", Indexing()).new == 1
    assert not repair(tmp_path / "out").left


def test_a_tar_that_changes_under_an_open_dataset_is_an_error(tmp_path: Path) -> None:
    (path,) = text_tars(tmp_path, [20])
    dataset = open_dataset(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"text 7 ")
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardDamaged, match=r"shard-000\.tar, sample s0007"):
        for index in range(len(dataset)):
            assert dataset[index].members["txt"]
    kept = open_loader(dataset, batch_size=4, lanes=1, on_damage="skip", tail="split")
    assert {item.key for batch in kept for item in batch} == {f"s{n:04d}" for n in range(20) if n != 7}


def test_an_object_that_changes_on_the_server_is_an_error(tmp_path: Path) -> None:
    text_tars(tmp_path, [20])
    with flaky_server(tmp_path) as server:
        dataset = open_dataset(f"{server.url}/shard-000.tar")
        assert dataset[0].key == "s0000"
        server.tag = '"two"'
        with pytest.raises(ShardDamaged, match="changed on the server"):
            dataset[1]
        assert open_dataset(f"{server.url}/shard-000.tar")[1].key == "s0001"


def test_a_long_member_has_digests_of_its_chunks(tmp_path: Path) -> None:
    video = random.Random(1).randbytes(LONG_BYTES + 3 * CHUNK_BYTES + 5)
    write_tar(tmp_path / "v.tar", [("a", {"txt": b"short"}), ("b", {"mp4": video, "txt": b"long"})])
    dataset = open_dataset(tmp_path / "v.tar")
    table = dataset.tables.find(0, 0)
    assert table.chunk_digests(0) == []
    start, size = int(table.offsets[1]), int(table.sizes[1])
    span = (tmp_path / "v.tar").read_bytes()[start : start + size]
    chunks = [span[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
    assert table.chunk_digests(1) == [blake3_128(chunk) for chunk in chunks]
    assert dataset[1].members["mp4"] == video


@pytest.mark.parametrize("deep", [False, True])
def test_verify_names_the_sample_that_was_altered(tmp_path: Path, deep: bool) -> None:
    from shardkit.store.verify import verify

    (path,) = text_tars(tmp_path, [20])
    made = index_tars(path, tmp_path / "out", Indexing())
    store = open_dataset(tmp_path / "out").store
    assert not verify(store, records=deep).damages
    data = bytearray(path.read_bytes())
    data[data.index(b"text 7 ")] ^= 1
    path.write_bytes(data)
    found = verify(store, records=deep)
    assert [(damage.key, damage.member) for damage in found.damages] == [("s0007", "txt")]
    path.write_bytes(data[:-600])
    assert verify(store, records=deep).damages
    assert made.manifest.shards[0].url == "../shard-000.tar"


def test_a_manifest_may_not_name_files_of_this_machine(tmp_path: Path) -> None:
    (path,) = text_tars(tmp_path / "", [3])
    made = index_tars(path, tmp_path / "out", Indexing())
    republish(tmp_path / "out", made, str(path))
    with pytest.raises(StorageFailed, match="relative path or a URL"):
        open_dataset(tmp_path / "out")


def test_a_manifest_that_names_a_private_host_is_refused_until_the_user_has_named_it(tmp_path: Path) -> None:
    text_tars(tmp_path, [3])
    with serve_folder(tmp_path) as server:
        url = f"{server.url}/shard-000.tar"
        made = index_tars(url, tmp_path / "out", Indexing())
        assert made.manifest.shards[0].url == url
        assert len(list(open_dataset(tmp_path / "out"))) == 3
        (cache_folder() / foreign.TRUSTED).unlink()
        with pytest.raises(StorageFailed, match="found in data"):
            list(open_dataset(tmp_path / "out"))
        assert server.url in str(open_dataset(url).store.url)  # typed: trusted


def republish(root: Path, made: foreign.IndexResult, url: str) -> None:
    import msgspec

    from shardkit.store.publish import publish_version

    shards = tuple(msgspec.structs.replace(entry, url=url) for entry in made.manifest.shards)
    publish_version(root, msgspec.structs.replace(made.manifest, shards=shards))


def test_secrets_of_urls_are_in_no_file_and_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    text_tars(tars, [3])
    with serve_folder(tars) as server, caplog.at_level(logging.INFO):
        url = f"{server.url}/shard-000.tar?token=CANARY"
        dataset = open_dataset(url)
        assert len(list(dataset)) == 3
        index_tars(url, tmp_path / "out", Indexing())
        (tars / "shard-000.tar").unlink()
        with pytest.raises(SpecError, match="is missing") as raised:
            open_dataset(url)
    told = [repr(dataset), caplog.text, str(raised.value)]
    files = [path for root in (cache_folder(), tmp_path / "out") for path in root.rglob("*") if path.is_file()]
    assert files and not [text for text in told if "CANARY" in text]
    assert not [path for path in files if b"CANARY" in path.read_bytes() or "CANARY" in str(path)]


def test_what_is_no_tar_is_said(tmp_path: Path) -> None:
    assert is_tars("x-{0..3}.tar") and is_tars("https://h/x.tar?token=1") and is_tars(["a.tar", "b.tar.zst"])
    assert not is_tars("data/demo") and not is_tars("https://h/data") and not is_tars(["a.tar", "data/demo"])
    with pytest.raises(SpecError, match="missing"):
        open_dataset(tmp_path / "shard-{0..3}.tar")
    with pytest.raises(SpecError, match="matches no file"):
        open_dataset(tmp_path / "*.tar")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SpecError, match="is no tar"):
        open_dataset(tmp_path / "*.txt")
    (tmp_path / "back\\slash.tar").write_bytes(b"")
    with pytest.raises(SpecError, match="backslash"):
        open_dataset(tmp_path / "back\\slash.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(SpecError, match="no plain file"):
        open_dataset(tmp_path / "pipe.tar")


def test_paths_are_short_where_tars_share_a_folder() -> None:
    assert short_paths(["/a/b/x.tar", "/a/b/y.tar"]) == ["x.tar", "y.tar"]
    assert short_paths(["/a/b/0/x.tar", "/a/b/1/x.tar"]) == ["0/x.tar", "1/x.tar"]
    assert short_paths(["https://h/a/x.tar?t=1", "https://h/b/x.tar"]) == ["a/x.tar", "b/x.tar"]
    assert short_paths(["https://h/x.tar", "https://other/x.tar"]) == ["0/x.tar", "1/x.tar"]
    assert short_paths(["/a/x.tar", "s3://b/x.tar"]) == ["0/x.tar", "1/x.tar"]
