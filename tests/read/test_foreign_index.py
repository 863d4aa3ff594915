"""Indexing tars that others made: once, again only what changed, going on where it was stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shardkit.errors import (
    NotADataset,
    PlanConflict,
    ShardDamaged,
    SpecError,
    StateConflict,
)
from shardkit.read import foreign
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.diskcache import cache_folder
from shardkit.read.foreign import Indexing, index_tars
from shardkit.read.loader import open_loader
from shardkit.read.serve import serve_folder
from shardkit.read.tar_set import parse_wanted
from shardkit.store import tar_index
from tests.read.foreign import text_tars, write_tar
from tests.read.made import make_dataset, numbered
from tests.store import hostile


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of tars that are read to be indexed."""
    seen: list[str] = []
    index_file = foreign.index_file

    def counting(tar: foreign.TarFile, *rest: object) -> object:
        seen.append(Path(tar.place).name)
        return index_file(tar, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(foreign, "index_file", counting)
    return seen


def samples_of(dataset: Dataset) -> list[tuple[str, dict[str, bytes]]]:
    return [(item.key, {name: bytes(data) for name, data in item.members.items()}) for item in dataset]


def test_the_version_depends_on_the_tars_and_not_on_where_they_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text_tars(tmp_path / name, [5, 6])
    with serve_folder(tmp_path / "two") as server:
        versions = {
            open_dataset(tmp_path / "one" / "shard-{000..001}.tar").version,
            open_dataset(f"{server.url}/shard-{{000..001}}.tar").version,
            open_dataset([tmp_path / "two" / "shard-000.tar", tmp_path / "two" / "shard-001.tar"]).version,
            index_tars(tmp_path / "one" / "*.tar", None, Indexing()).version,
        }
    assert len(versions) == 1
    assert open_dataset(tmp_path / "one").version in versions  # indexed beside the tars


def test_tars_are_indexed_once_and_only_what_changed_again(tmp_path: Path, counted: list[str]) -> None:
    paths = text_tars(tmp_path, [5, 6, 7])
    pattern = str(tmp_path / "shard-*.tar")
    first = open_dataset(pattern)
    assert sorted(counted) == [path.name for path in paths]
    assert open_dataset(pattern).version == first.version
    assert len(counted) == 3
    write_tar(paths[1], [("new", {"txt": b"new"})])
    os.utime(paths[1], ns=(1, 1))
    again = open_dataset(pattern)
    assert counted[3:] == ["shard-001.tar"]
    assert again.version != first.version and "new" in {item.key for item in again}
    with pytest.raises(NotADataset, match="make version"):
        open_dataset(pattern, first.version)
    with pytest.raises(StateConflict):
        open_loader(again, batch_size=2).load_state_dict(open_loader(first, batch_size=2).state_dict())


def test_a_tar_of_the_same_size_that_was_written_again_is_noticed(tmp_path: Path, counted: list[str]) -> None:
    (path,) = text_tars(tmp_path, [5])
    first = open_dataset(path)
    data = path.read_bytes().replace(b"text 3 ", b"TEXT 3 ")
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert open_dataset(path).version != first.version
    index_tars(path, tmp_path / "out", Indexing())
    path.write_bytes(data.replace(b"text 4 ", b"TEXT 4 "))
    assert index_tars(path, tmp_path / "out", Indexing()).new == 1
    assert len(counted) == 4


def test_a_tar_that_changes_while_it_is_indexed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = text_tars(tmp_path, [5])
    index_tar = foreign.index_tar

    def slowly(*arguments: object) -> object:
        made = index_tar(*arguments)  # type: ignore[arg-type]
        os.utime(path, ns=(1, 1))
        return made

    monkeypatch.setattr(foreign, "index_tar", slowly)
    with pytest.raises(ShardDamaged, match="changed while it was indexed"):
        open_dataset(path)


@pytest.mark.parametrize("harm", ["altered record", "torn record", "no index", "torn index"])
def test_what_is_left_of_an_earlier_run_is_not_believed_blindly(tmp_path: Path, counted: list[str], harm: str) -> None:
    text_tars(tmp_path, [3, 4])
    out = tmp_path / "out"
    made = index_tars(tmp_path / "*.tar", out, Indexing())
    record = min((out / ".build" / "tars").iterdir())
    index = min((out / "indexes").rglob("*.idx"))
    if "record" in harm:
        data = record.read_bytes()
        record.write_bytes(data.replace(b'"samples":', b'"samples":1') if harm == "altered record" else data[:-9])
    elif harm == "no index":
        index.unlink()
    else:
        index.write_bytes(index.read_bytes()[:-1])
    again = index_tars(tmp_path / "*.tar", out, Indexing())
    assert (again.new, again.version, len(counted)) == (1, made.version, 3)
    assert len(list(open_dataset(out))) == 7


FIRST_USE = """
import sys
from shardkit import open_dataset
dataset = open_dataset(sys.argv[1])
print(dataset.version, len(dataset))
"""


def test_several_processes_index_once(tmp_path: Path) -> None:
    text_tars(tmp_path, [10, 10])
    command = [sys.executable, "-c", FIRST_USE, str(tmp_path / "shard-*.tar")]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) for _ in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert len({out for out, _ in ended}) == 1 and ended[0][0].endswith(" 20\n"), ended
    assert sum("indexing 2 tars" in err for _, err in ended) == 1, ended


def test_an_interrupted_index_goes_on(tmp_path: Path, counted: list[str]) -> None:
    text_tars(tmp_path, [3, 4, 5, 6])

    def stop(event: foreign.Indexed) -> None:
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_tars(tmp_path / "*.tar", tmp_path / "out", Indexing(), stop)
    with pytest.raises(NotADataset):
        open_dataset(tmp_path / "out")
    done = len(list((tmp_path / "out" / "indexes").rglob("*.idx")))
    assert done >= 2
    counted.clear()
    kept: list[bool] = []
    made = index_tars(tmp_path / "*.tar", tmp_path / "out", Indexing(), lambda event: kept.append(event.kept))
    assert (made.new, len(counted), sum(kept)) == (4 - done, 4 - done, done)
    assert samples_of(open_dataset(tmp_path / "out")) == samples_of(open_dataset(tmp_path / "shard-*.tar"))


def test_processes_make_the_same_index_as_threads(tmp_path: Path) -> None:
    text_tars(tmp_path, [9, 8])
    by_threads = index_tars(tmp_path / "*.tar", tmp_path / "one", Indexing())
    by_processes = index_tars(tmp_path / "*.tar", tmp_path / "two", Indexing(workers=2))
    assert by_threads.version == by_processes.version


def test_samples_without_a_wanted_member_are_left_out_and_counted(tmp_path: Path, counted: list[str]) -> None:
    samples = [(f"s{at}", {"jpg" if at % 2 else "png": b"x", **({"txt": b"y"} if at % 3 else {})}) for at in range(30)]
    write_tar(tmp_path / "a.tar", samples)
    made = index_tars(tmp_path / "a.tar", tmp_path / "out", Indexing(wanted=parse_wanted("jpg|png, txt")))
    totals = made.manifest.totals
    assert (totals.samples, totals.omitted) == (20, 10)
    assert made.manifest.lanes["tars"].refused == {"missing-member": 10}
    dataset = open_dataset(tmp_path / "out")
    assert [item.key for item in dataset] == [key for key, files in samples if "txt" in files]
    assert not dataset.verify().damages
    other = index_tars(tmp_path / "a.tar", tmp_path / "out", Indexing(wanted=parse_wanted("jpg")))
    assert (other.manifest.totals.samples, other.new, len(counted)) == (15, 0, 1)
    with pytest.raises(SpecError, match="lack a member of --require mp3"):
        index_tars(tmp_path / "a.tar", tmp_path / "out", Indexing(wanted=parse_wanted("mp3")))
    with pytest.raises(SpecError, match="empty name"):
        parse_wanted("jpg,,txt")


@pytest.mark.parametrize("case", ["symlink", "cut in a member", "duplicate", "gzip", "html"])
def test_a_hostile_tar_is_a_clear_error_and_leaves_no_version(tmp_path: Path, case: str) -> None:
    text_tars(tmp_path, [3])
    (tmp_path / "shard-001.tar").write_bytes(hostile.CASES[case][1]())
    with pytest.raises(ShardDamaged, match=r"shard-001\.tar"):
        open_dataset(tmp_path / "shard-{000..001}.tar")
    assert not list(cache_folder().rglob("manifest.json"))


def test_a_sample_that_is_not_kept_in_memory_is_indexed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_tars(tmp_path, [10])
    whole = open_dataset(tmp_path / "shard-000.tar")
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(tar_index, "KEPT_BYTES", 0)
    small = open_dataset(tmp_path / "shard-000.tar")
    assert samples_of(small) == samples_of(whole)
    assert (small.manifest.totals.sums.text_characters, whole.manifest.totals.sums.text_characters > 0) == (0, True)


def test_an_error_ends_long_tars_that_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = hostile.patched(124, b"%011o\0" % (6 << 30), hostile.plain("video.mp4")[:512])
    with (tmp_path / "long.tar").open("wb") as file:  # 6 GiB, sparse: half a minute and more to read
        file.write(video)
        file.truncate(512 + (6 << 30) + 1024)
    (tmp_path / "short.tar").write_bytes(b"no tar")
    read: list[int] = []
    read_range = foreign._Until.read_range

    def counting(store: foreign._Until, path: str, offset: int, length: int) -> bytes:
        if path == "long.tar":
            read.append(length)
        return read_range(store, path, offset, length)

    monkeypatch.setattr(foreign._Until, "read_range", counting)
    with pytest.raises(ShardDamaged, match="short"):
        open_dataset([tmp_path / "long.tar", tmp_path / "short.tar"])
    for thread in threading.enumerate():
        if thread.name.startswith("shardkit-index"):
            thread.join(60)
            assert not thread.is_alive()
    assert sum(read) < 6 << 30


def test_an_index_does_not_go_into_a_dataset_of_ours(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([5]))
    with pytest.raises(PlanConflict, match="was built"):
        index_tars(str(tmp_path / "shards" / "**" / "*.tar"), tmp_path, Indexing())


def test_a_tar_without_its_end_says_how_it_is_taken_all_the_same(tmp_path: Path) -> None:
    (path,) = text_tars(tmp_path, [3])
    held = path.read_bytes().rstrip(b"\0")
    path.write_bytes(held + bytes(-len(held) % 512))
    with pytest.raises(ShardDamaged, match=r"cut short.*shardkit index --unended"):
        index_tars(path, tmp_path / "out", Indexing())
    made = index_tars(path, tmp_path / "out", Indexing(unended=True))
    assert made.manifest.totals.samples == 3
