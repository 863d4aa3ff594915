"""Repair: whatever file is damaged or gone, it is whole again afterwards, or named; a mirror cannot bring damage in."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from shardkit.errors import NotADataset, StorageFailed
from shardkit.read.serve import serve_folder
from shardkit.store import fs, shard, streams
from shardkit.store.faults import Faults, Setting
from shardkit.store.fs import Instead, Operation
from shardkit.store.repair import repair
from shardkit.store.urls import LocalStore, open_store
from shardkit.store.verify import verify
from tests.read.made import make_dataset, numbered

FILES = ("shards/*/*", "indexes/*/*", "columns/*/*", "versions/*", "manifest.json")


@pytest.fixture(params=["tar", "tar.zst"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and a good copy of it."""
    make_dataset(tmp_path / "data", numbered([8, 5], images=True), codec=request.param, block=4)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    return tmp_path / "data", tmp_path / "copy"


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    path.unlink()  # the copy may share nothing with it
    if how == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-1])


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_every_kind_of_file_is_fetched_again_over_http(pair: tuple[Path, Path], how: str) -> None:
    root, copy = pair
    good = content(copy)
    for pattern in FILES:
        for path in list(root.glob(pattern)):
            spoil(path, how)
    with serve_folder(copy) as server:
        report = repair(root, [open_store(server.url)])
    assert not report.left
    assert content(root) == good
    assert not verify(LocalStore(root)).damages


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
def test_an_index_is_rebuilt_from_its_shard_without_a_mirror(pair: tuple[Path, Path], how: str) -> None:
    root, copy = pair
    indexes = sorted(root.glob("indexes/*/*"))
    for path in indexes:
        spoil(path, how)
    report = repair(root)
    assert not report.left
    assert [file.how for file in report.repaired] == ["rebuilt"] * len(indexes)
    assert content(root) == content(copy)


def test_what_no_mirror_has_is_named_and_good_files_are_not_touched(pair: tuple[Path, Path]) -> None:
    root, copy = pair
    first, second = sorted(root.glob("shards/*/*"))
    untouched = second.stat().st_ino
    spoil(first, "flip")
    spoil(copy / first.relative_to(root), "cut")
    report = repair(root, [LocalStore(copy)])
    assert [file.path for file in report.left] == [first.relative_to(root).as_posix()]
    assert second.stat().st_ino == untouched
    assert not list(root.rglob(".stage-*"))


@pytest.mark.parametrize("at", [134, 200, 1])
def test_an_index_is_not_rebuilt_from_a_shard_that_is_damaged_too(pair: tuple[Path, Path], at: int) -> None:
    root, _ = pair
    shards = sorted(root.glob("shards/*/*"))
    data = bytearray(shards[0].read_bytes())
    data[at] = ord("9") if data[at] != ord("9") else ord("8")
    shards[0].unlink()
    shards[0].write_bytes(data)
    for path in root.glob("indexes/*/*"):
        path.unlink()
    report = repair(root)
    left = {each.path for each in report.left}
    assert shards[0].relative_to(root).as_posix() in left and len(left) == 2  # the shard and its own index
    assert [each.how for each in report.repaired] == ["rebuilt"]


def test_the_next_mirror_is_asked_where_the_first_is_damaged(pair: tuple[Path, Path], tmp_path: Path) -> None:
    root, copy = pair
    shutil.copytree(copy, tmp_path / "bad")
    (first, *_) = sorted(root.glob("shards/*/*"))
    spoil(first, "gone")
    spoil(tmp_path / "bad" / first.relative_to(root), "flip")
    report = repair(root, [LocalStore(tmp_path / "bad"), LocalStore(copy)])
    assert [file.source for file in report.repaired] == [str(copy)]
    assert content(root) == content(copy)


def test_a_dry_run_names_the_damage_and_changes_nothing(pair: tuple[Path, Path]) -> None:
    root, copy = pair
    for path in sorted(root.glob("indexes/*/*")):
        spoil(path, "flip")
    before = content(root)
    report = repair(root, [LocalStore(copy)], dry_run=True)
    assert len(report.left) == 2
    assert content(root) == before


class Interrupting:
    """Ctrl-C at the third write of a shard."""

    writes = 0

    def before(self, operation: Operation) -> Instead | None:
        if operation.kind == "write" and "/shards/" in operation.path:
            self.writes += 1
            if self.writes == 3:
                raise KeyboardInterrupt
        return None

    def after(self, operation: Operation) -> None:
        """Nothing more."""


@pytest.mark.parametrize("fault", ["full", "ctrl-c"])
def test_a_rebuild_that_a_full_disk_or_ctrl_c_ends_says_so_and_leaves_nothing(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(shard, "PUT_BYTES", 1)
    monkeypatch.setattr(streams, "ALONE_BYTES", 0)
    root, _ = pair
    (index, *_) = sorted(root.glob("indexes/*/*"))
    spoil(index, "gone")
    full = Faults(Setting(fault="enospc", at=1, kinds=("fsync",)))
    before = fs.observe(full if fault == "full" else Interrupting())
    try:
        with pytest.raises((KeyboardInterrupt, StorageFailed)):
            repair(root)
    finally:
        fs.observe(before)
    assert not list(root.rglob(".stage-*"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shard-writer")]
    assert not repair(root).left


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADataset, match=r"manifest\.json"):
        repair(tmp_path)
