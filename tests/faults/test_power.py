"""Power cuts: in no state of the disk is anything committed lost, or anything dangling, and the resume completes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shardkit.store.fs import Operation
from tests.faults.conftest import Golden
from tools.faults.disk import LOSSES, Disk
from tools.faults.power import Cut, Recorded, cut_power, record_killed, record_plain, try_states

LOOKED_AT = 400
RESUMED = 150


@pytest.fixture(scope="module")
def plain(least: Golden, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_plain(least.spec, tmp_path_factory.mktemp("power") / "plain")


def looked_at(
    recorded: Recorded, scratch: Path, count: int, drop: Callable[[Operation], bool] | None = None
) -> list[Cut]:
    rng = random.Random(11)
    return [cut_power(recorded, rng, scratch / str(number), drop) for number in range(count)]


def test_power_cut_loses_no_commit_and_leaves_nothing_dangling(plain: Recorded, scratch: Path) -> None:
    cuts = looked_at(plain, scratch, LOOKED_AT)
    assert [cut for cut in cuts if cut.problems] == []
    assert {cut.loss for cut in cuts} == set(LOSSES)
    assert sum(bool(cut.acknowledged) for cut in cuts) > LOOKED_AT // 4


def test_build_resumed_after_power_cut_has_the_same_version(least: Golden, plain: Recorded, scratch: Path) -> None:
    assert plain.version == least.version
    cuts = list(try_states(least.spec, plain, random.Random(12), RESUMED, scratch))
    assert [cut for cut in cuts if cut.problems] == []
    assert len(cuts) >= RESUMED


def test_power_cut_after_a_kill_and_a_resume_loses_nothing(least: Golden, scratch: Path) -> None:
    rng = random.Random(13)
    cuts = []
    for number, kill_at in enumerate(rng.sample(range(1, len(least.log)), 25)):
        recorded = record_killed(least.spec, scratch / f"log-{number}", kill_at)
        cuts += list(try_states(least.spec, recorded, rng, RESUMED // 25, scratch / f"states-{number}"))
    assert [cut for cut in cuts if cut.problems] == []
    assert len(cuts) >= RESUMED


def test_when_a_build_returns_everything_is_durable(least: Golden, plain: Recorded, scratch: Path) -> None:
    logs = [plain]
    logs += [record_killed(least.spec, scratch / str(at), at) for at in range(1, len(plain.log), 3)]
    for recorded in logs:
        disk = Disk(recorded.base)
        disk.replay(recorded.log)
        assert disk.pending() == ["dataset/.build/lock"]  # its note of the holder, which nobody relies on


def is_content(operation: Operation) -> bool:
    return any(f"/{name}/" in operation.path for name in ("shards", "indexes", "deadletters", "columns", "versions"))


TEETH: dict[str, Callable[[Operation], bool]] = {
    "no file is forced": lambda one: one.kind == "fsync",
    "no folder is forced": lambda one: one.kind == "fsync_folder",
    "no shard is forced": lambda one: one.kind == "fsync" and "/shards/" in one.path,
    "no index is forced": lambda one: one.kind == "fsync" and "/indexes/" in one.path,
    "no commit is forced": lambda one: one.kind == "fsync" and "/lanes/" in one.path,
    "no version is forced": lambda one: one.kind == "fsync" and "/versions/" in one.path,
    "no pointer is forced": lambda one: one.kind == "fsync" and "pointer" in one.path,
    "no dead letters are forced": lambda one: one.kind == "fsync" and "/deadletters/" in one.path,
    "no columns are forced": lambda one: one.kind == "fsync" and "/columns/" in one.path,
    "no names of content are forced": lambda one: one.kind == "fsync_folder" and is_content(one),
    "no names of commits are forced": lambda one: one.kind == "fsync_folder" and "/lanes/" in one.path,
    "the pointer's name is not forced": lambda one: one.kind == "fsync_folder" and one.path.endswith("/dataset"),
}


@pytest.mark.parametrize("missing", TEETH)
def test_without_a_force_some_state_is_bad(plain: Recorded, scratch: Path, missing: str) -> None:
    assert any(TEETH[missing](operation) for operation in plain.log), "nothing was left out"
    bad = [cut for cut in looked_at(plain, scratch, LOOKED_AT, TEETH[missing]) if cut.problems]
    assert bad
