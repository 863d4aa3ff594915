"""Shards that a thread of their own writes: power cuts, kills and failing disks as for the small ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shardkit.errors import StorageFailed
from shardkit.store.faults import Faults, Setting
from shardkit.store.fs import Operation
from shardkit.store.streams import ALONE_BYTES
from tests.faults.conftest import Golden, golden
from tools.faults.calls import kill_at_calls
from tools.faults.disk import Disk
from tools.faults.errors import inject_each
from tools.faults.power import Recorded, cut_power, record_killed, record_plain, try_states
from tools.faults.runner import build_here

LOOKED_AT = 60
RESUMED = 9


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return golden(tmp_path_factory.mktemp("large"), "large")


@pytest.fixture(scope="module")
def plain(large: Golden, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_plain(large.spec, tmp_path_factory.mktemp("power") / "plain")


def of_large_shards(log: list[Operation]) -> list[int]:
    """Numbers, from 1, of the calls that write large shards and force them to the disk."""
    sizes: dict[str, int] = {}
    for one in log:
        sizes[one.path] = sizes.get(one.path, 0) + len(one.data)
    names = {path for path, size in sizes.items() if "/shards/" in path and size >= ALONE_BYTES}
    return [at for at, one in enumerate(log, 1) if one.path in names and one.kind in ("write", "fsync")]


def test_both_codecs_have_a_shard_that_is_written_by_a_thread(large: Golden) -> None:
    chosen = [large.log[at - 1] for at in of_large_shards(large.log)]
    assert [one.kind for one in chosen].count("fsync") == 2
    assert sum(one.kind == "write" for one in chosen) == 9


def test_power_cut_loses_nothing_and_the_resume_has_the_same_version(
    large: Golden, plain: Recorded, scratch: Path
) -> None:
    assert plain.version == large.version
    cuts = list(try_states(large.spec, plain, random.Random(21), RESUMED, scratch / "plain"))
    killed = record_killed(large.spec, scratch / "killed", of_large_shards(plain.log)[-2])
    cuts += list(try_states(large.spec, killed, random.Random(22), RESUMED // 3, scratch / "again"))
    assert [cut for cut in cuts if cut.problems] == []


def test_everything_is_durable_when_the_build_returns(plain: Recorded) -> None:
    disk = Disk(plain.base)
    disk.replay(plain.log)
    assert disk.pending() == ["dataset/.build/lock"]


@pytest.mark.parametrize("forced", [True, False])
def test_only_without_its_fsync_is_a_large_shard_lost(plain: Recorded, scratch: Path, forced: bool) -> None:
    large = {plain.log[at - 1].path for at in of_large_shards(plain.log)}
    rng = random.Random(23)
    drop = None if forced else lambda one: one.kind == "fsync" and one.path in large
    cuts = [cut_power(plain, rng, scratch / str(number), drop) for number in range(LOOKED_AT)]
    assert bool([cut for cut in cuts if cut.problems]) is not forced


def test_kill_at_every_call_that_writes_a_large_shard(large: Golden, scratch: Path) -> None:
    chosen = of_large_shards(large.log)[1::2]
    kills = list(kill_at_calls(large.spec, large.version, chosen, random.Random(24), scratch))
    assert [kill for kill in kills if kill.problems] == []
    assert len(kills) == len(chosen)


@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_failing_call_of_the_thread_stops_the_build(large: Golden, scratch: Path, fault: str) -> None:
    chosen = [Setting(fault=fault, at=at) for at in of_large_shards(large.log)[fault == "eio" :: 2]]  # type: ignore[arg-type]
    done = list(inject_each(large.spec, large.version, chosen, scratch))
    assert [one for one in done if one.problems or not one.stopped] == []


@pytest.mark.parametrize("fault", ["short", "torn", "flip"])
def test_lies_about_a_large_write_are_found_out(large: Golden, scratch: Path, fault: str) -> None:
    writes = [at for at, one in enumerate(large.log, 1) if one.kind == "write"]
    chosen = [writes.index(at) + 1 for at in of_large_shards(large.log) if at in writes]
    lies = [Setting(fault=fault, at=at, kinds=("write",)) for at in chosen[2::3]]  # type: ignore[arg-type]
    done = list(inject_each(large.spec, large.version, lies, scratch))
    assert [one for one in done if one.problems or one.stopped is (fault == "short")] == []


def test_the_thread_never_tries_an_fsync_again(large: Golden, scratch: Path) -> None:
    chosen = [at for at in of_large_shards(large.log) if large.log[at - 1].kind == "fsync"]
    nth = sum(one.kind == "fsync" for one in large.log[: chosen[0]])
    faults = Faults(Setting(fault="eio", at=nth, kinds=("fsync",)), keep=True)
    (scratch / "dataset").mkdir()
    with pytest.raises(StorageFailed, match="cannot fsync"):
        build_here(large.spec, scratch / "dataset", faults)
    assert faults.calls == nth
    assert not list((scratch / "dataset").rglob(".stage-*"))
