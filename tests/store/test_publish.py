"""Publishing: order, faults at every call, good files kept, bad ones replaced, one builder at a time, recovery."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from shardkit.errors import Locked, NotADataset, ShardDamaged, StorageFailed
from shardkit.store import fs, publish
from shardkit.store.faults import Faults, Setting, from_setting, read_log
from shardkit.store.layout import Commit, LaneTotals, index_path, shard_path
from shardkit.store.manifest import read_manifest
from shardkit.store.publish import (
    commit_path,
    decode_commit,
    encode_commit,
    lock,
    publish_bytes,
    publish_file,
    publish_shard,
    publish_version,
    read_commits,
    write_commit,
)
from shardkit.store.recovery import plan_gc, recover, run_gc
from shardkit.store.urls import open_store
from shardkit.store.verify import verify
from tests.store.made import build_lane, build_tiny, manifest_of, media_sample, stage, text_sample

SHARDS = [[media_sample(1), text_sample(1)], [text_sample(2), text_sample(3), text_sample(4)]]


@contextmanager
def faulty(setting: Setting | None = None, *, keep: bool = False) -> Iterator[Faults]:
    faults = Faults(setting, keep=keep)
    before = fs.observe(faults)
    try:
        yield faults
    finally:
        fs.observe(before)


def build(root: Path) -> str:
    """A build that resumes: only shards without a commit are made."""
    with lock(root):
        commits = recover(root).commits.get("s-0", ())
        entries = [commit.shard for commit in commits if commit.shard is not None]
        for ordinal in range(len(entries), len(SHARDS)):
            staged = stage(root, SHARDS[ordinal], ordinal=ordinal)
            publish_shard(root, staged)
            write_commit(root, Commit(lane="s-0", number=ordinal, shard=staged.entry, totals=LaneTotals()))
            entries.append(staged.entry)
        version = publish_version(root, manifest_of(entries))
        run_gc(root, plan_gc(root))
        return version


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("golden")
    build(root)
    return files(root)


def nothing_partial(root: Path) -> None:
    """Whatever is published under a digest has it, and the pointer, where there is one, leads to a whole version."""
    try:
        assert verify(open_store(root)).damages == ()
    except NotADataset:
        assert not (root / "manifest.json").exists()
    for commit in read_commits(root, "s-0"):
        assert commit.shard is not None
        for path, ref in (
            (shard_path(commit.shard), commit.shard.shard),
            (index_path(commit.shard.index.digest), commit.shard.index),
        ):
            assert publish.blake3.blake3((root / path).read_bytes()).hexdigest() == ref.digest


@pytest.mark.parametrize("fault", ["enospc", "eio", "short", "torn", "flip"])
def test_fault_at_every_call_is_an_error_or_harmless_and_the_resume_completes(
    tmp_path: Path, golden: dict[str, bytes], fault: str
) -> None:
    with faulty(keep=True) as log:
        build(tmp_path / "whole")
    writes = fault in ("short", "torn", "flip")
    count = sum(operation.kind == "write" for operation in log.operations) if writes else log.calls
    stopped = 0
    for at in range(1, count + 1):
        root = tmp_path / str(at)
        setting = Setting(fault=fault, at=at, kinds=("write",) if writes else ())  # type: ignore[arg-type]
        with faulty(setting) as faults:
            try:
                build(root)
            except StorageFailed as error:
                stopped += 1
                assert ";" in str(error)
        assert faults.calls >= at
        if root.exists():
            nothing_partial(root)
        build(root)
        assert files(root) == golden
    # The lock's note may lie, and a temporary that stays is left to recovery; every other fault must be noticed.
    assert stopped == 0 if fault == "short" else stopped >= count - 10


def test_lasting_disk_full_keeps_what_was_committed(tmp_path: Path, golden: dict[str, bytes]) -> None:
    with faulty(keep=True) as log:
        build(tmp_path / "whole")
    for at in range(1, log.calls, 3):
        root = tmp_path / str(at)
        with faulty(Setting(fault="enospc", at=at, lasting=True)), pytest.raises(StorageFailed, match="No space"):
            build(root)
        kept = len(read_commits(root, "s-0")) if root.exists() else 0
        if root.exists():
            nothing_partial(root)
        with faulty(keep=True) as resumed:
            build(root)
        made = {Path(op.path).name for op in resumed.operations if op.kind == "create" and "/shards/" in op.path}
        assert len(made) == len(SHARDS) - kept
        assert files(root) == golden


def test_kill_at_every_call_then_resume(tmp_path: Path, golden: dict[str, bytes]) -> None:
    """Forked children die at every third call of the writing module; a sixth of them again in the resume."""
    with faulty(keep=True) as log:
        build(tmp_path / "whole")
    for at in range(1, log.calls + 1, 3):
        root = tmp_path / str(at)
        for setting in [Setting(fault="kill", at=at), *([Setting(fault="kill", at=at // 2 + 1)] if at % 2 else [])]:
            child = os.fork()
            if child == 0:
                with faulty(setting):
                    build(root)
                os._exit(0)
            os.waitpid(child, 0)
            if root.exists():
                nothing_partial(root)
        build(root)
        assert files(root) == golden


def test_every_publication_follows_the_order_of_the_format(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with faulty(keep=True) as log:
        build(root)
    operations = [(op.kind, Path(op.path), Path(op.target)) for op in log.operations]
    for at, (kind, path, target) in enumerate(operations):
        if kind == "link":
            synced = [p for k, p, _ in operations[:at] if k == "fsync"]
            written = max(n for n, (k, p, _) in enumerate(operations[:at]) if k == "write" and p == path)
            assert path in synced
            assert operations[written + 1][:2] == ("fsync", path)
            assert operations[at + 1][:2] == ("unlink", path)
            assert operations[at + 2][:2] == ("fsync_folder", target.parent)
        if kind == "mkdir":
            assert operations[at + 1][:2] == ("fsync_folder", path.parent)
    published = [target.relative_to(root).parts[0] for kind, _, target in operations if kind in ("link", "replace")]
    assert published == ["shards", "indexes", ".build"] * 2 + ["versions", "manifest.json"]
    assert operations[-1][:2] == ("fsync_folder", root)


def test_good_existing_file_is_kept_and_a_bad_one_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "folder" / "name"
    assert publish_bytes(final, b"right")
    inode = final.stat().st_ino
    assert not publish_bytes(final, b"right")
    assert final.stat().st_ino == inode
    for bad in (b"wrong", b"righ", b"", b"right and more"):
        final.write_bytes(bad)
        assert not publish_bytes(final, b"right")
        assert final.read_bytes() == b"right"
    assert [path.name for path in final.parent.iterdir()] == ["name"]


def test_failed_fsync_is_not_tried_again_and_the_file_is_thrown_away(tmp_path: Path) -> None:
    failing = faulty(Setting(fault="eio", at=1, kinds=("fsync",)), keep=True)
    with failing as faults, pytest.raises(StorageFailed, match=r"cannot fsync .*Input/output error"):
        publish_bytes(tmp_path / "name", b"data")
    assert list(tmp_path.iterdir()) == []
    assert faults.calls == 1


def test_existing_file_that_is_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("")
    with pytest.raises(StorageFailed, match="a file of that name"):
        stage(tmp_path, SHARDS[0])


HOLD = """
import sys
import threading
from pathlib import Path
from shardkit.store.publish import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_builder_fails_at_once_and_touches_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == "held\n"
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(Locked, match=f"pid {holder.pid}"), lock(tmp_path):
            pytest.fail("locked twice")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        holder.kill()
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with lock(tmp_path):
        pass


def test_started_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with lock(tmp_path):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with lock(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_commit_round_trip_and_every_altered_byte_is_noticed() -> None:
    commit = Commit(
        lane="s-0", number=3, cursor={"row": 7}, totals=LaneTotals(rows=3, samples=2, refused={"schema": 1})
    )
    data = encode_commit(commit)
    assert decode_commit(data, "c") == commit
    for at in range(len(data)):
        for altered in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(ShardDamaged):
                decode_commit(altered, "c")


def test_lane_that_cannot_name_a_folder_is_refused(tmp_path: Path) -> None:
    for lane in ("../x", ".hidden", "a/b", ""):
        with pytest.raises(ValueError, match="lane name"):
            commit_path(tmp_path, lane, 0)


def committed(root: Path) -> list[Path]:
    with lock(root):
        entries = build_lane(root, [[text_sample(n)] for n in range(4)])
    return [root / shard_path(entry) for entry in entries]


def kept_after(root: Path) -> tuple[int, tuple[str, ...]]:
    with lock(root):
        found = recover(root)
    return len(found.commits["s-0"]), found.discarded


def test_recovery_keeps_all_good_commits(tmp_path: Path) -> None:
    committed(tmp_path)
    (tmp_path / "shards" / ".stage-s-0-9-1").write_bytes(b"left over")
    assert kept_after(tmp_path) == (4, ())
    assert not list((tmp_path / "shards").glob(".stage*"))


def test_recovery_discards_from_the_first_missing_or_cut_file_on(tmp_path: Path) -> None:
    for name, spoil in {
        "missing": Path.unlink,
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    }.items():
        shards = committed(tmp_path / name)
        spoil(shards[1])  # type: ignore[operator]
        assert kept_after(tmp_path / name) == (1, ("s-0/3", "s-0/2", "s-0/1"))
        assert len(read_commits(tmp_path / name, "s-0")) == 1


def test_recovery_checks_the_digests_of_the_last_shard(tmp_path: Path) -> None:
    for name, extra in {"shard last": False, "a last commit without a shard": True}.items():
        root = tmp_path / name
        last = committed(root)[-1]
        if extra:
            write_commit(root, Commit(lane="s-0", number=4, totals=LaneTotals(), done=True))
        data = bytearray(last.read_bytes())
        data[700] ^= 1
        last.write_bytes(data)
        assert kept_after(root)[0] == 3


def test_recovery_discards_commits_behind_a_gap_or_a_damaged_one(tmp_path: Path) -> None:
    committed(tmp_path / "gap")
    commit_path(tmp_path / "gap", "s-0", 1).unlink()
    assert kept_after(tmp_path / "gap") == (1, ("s-0/3", "s-0/2"))
    committed(tmp_path / "torn")
    path = commit_path(tmp_path / "torn", "s-0", 2)
    path.write_bytes(path.read_bytes()[:-3])
    assert kept_after(tmp_path / "torn") == (2, ("s-0/3", "s-0/2"))


def test_recovery_forces_names_to_the_disk_that_a_killed_builder_only_linked(tmp_path: Path) -> None:
    root = tmp_path / "data"
    shards = committed(root)
    with faulty(keep=True) as log, lock(root):
        recover(root)
    synced = {Path(operation.path) for operation in log.operations if operation.kind == "fsync_folder"}
    lanes = root / ".build" / "lanes"
    assert {tmp_path, root, root / "shards", *(shard.parent for shard in shards), lanes, lanes / "s-0"} <= synced


def test_recovery_of_an_empty_folder_finds_nothing(tmp_path: Path) -> None:
    with lock(tmp_path):
        assert recover(tmp_path).commits == {}


def test_garbage_is_what_no_commit_and_no_version_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    build_tiny(root)
    assert plan_gc(root).files == ()
    other = stage(root, [text_sample(50)], ordinal=7)
    publish_shard(root, other)
    (root / "indexes" / ".stage-x").write_bytes(b"123")
    plan = plan_gc(root)
    names = {shard_path(other.entry), index_path(other.entry.index.digest), "indexes/.stage-x"}
    assert {path for path, _ in plan.files} == names
    assert plan.bytes == other.entry.shard.bytes + other.entry.index.bytes + 3
    assert all((root / path).exists() for path in names)
    run_gc(root, plan)
    assert not any((root / path).exists() for path in names)
    assert verify(open_store(root)).damages == ()


def test_garbage_plan_keeps_older_versions_and_refuses_when_one_cannot_be_read(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    with lock(tmp_path):
        version, manifest = read_manifest(open_store(tmp_path))
        publish_version(tmp_path, msgspec.structs.replace(manifest, parent=version))
    assert plan_gc(tmp_path).files == ()
    path = tmp_path / "versions" / f"{version}.json.zst"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShardDamaged):
        plan_gc(tmp_path)


def test_faults_are_taken_from_the_environment_and_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    setting = msgspec.json.encode(Setting(fault="enospc", at=4, log=str(log))).decode()
    assert from_setting(setting).setting.at == 4
    code = "import sys; from pathlib import Path; from shardkit.store.publish import publish_bytes\n"
    code += "publish_bytes(Path(sys.argv[1]) / 'a' / 'b', b'data')"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "SHARDKIT_FAULTS": setting},
        capture_output=True,
        text=True,
    )
    assert os.strerror(errno.ENOSPC) in ended.stderr
    assert [operation.kind for operation in read_log(log)][:3] == ["mkdir", "fsync_folder", "create"]


def test_publish_file_is_not_fooled_by_equal_lengths(tmp_path: Path) -> None:
    staged, final = tmp_path / ".stage-a", tmp_path / "final"
    final.write_bytes(bytes(3 << 20))
    fs.write_file(staged, bytes((3 << 20) - 1) + b"x")
    publish_file(staged, final)
    assert final.read_bytes()[-1:] == b"x"


def test_lock_that_status_takes_for_an_instant_does_not_stop_a_builder(tmp_path: Path) -> None:
    with lock(tmp_path):
        pass
    fd = os.open(tmp_path / ".build" / "lock", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    closing = threading.Timer(0.02, os.close, [fd])
    closing.start()
    with lock(tmp_path):
        closing.join()
