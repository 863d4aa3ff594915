"""What recovery and tidying remove stays away, even when the power fails right after."""

from __future__ import annotations

from pathlib import Path

from shardkit.store import fs
from shardkit.store.publish import publish_bytes
from shardkit.store.recovery import recover
from tests.faults.conftest import Golden
from tools.faults.disk import Disk
from tools.faults.runner import Watch, build_here, observed

LOCK = "dataset/.build/lock"
"""The only thing that may be pending: its note of the holder, which nobody relies on."""


def pending(base: Path, watch: Watch) -> list[str]:
    disk = Disk(base)
    disk.replay(watch.log)
    return disk.pending()


def test_removed_garbage_stays_away_after_a_power_cut(least: Golden, scratch: Path) -> None:
    root, watch = scratch / "dataset", Watch()
    build_here(least.spec, root, watch)
    garbage = root / "shards" / "00" / f"{'0' * 64}.tar"
    with observed(watch):
        publish_bytes(garbage, b"nothing names this")
    assert build_here(least.spec, root, watch).version == least.version
    assert not garbage.exists()
    assert pending(scratch, watch) == [LOCK]


def test_discarded_commits_stay_away_after_a_power_cut(least: Golden, scratch: Path) -> None:
    root, watch = scratch / "dataset", Watch()
    build_here(least.spec, root, watch)
    with observed(watch):
        for shard in sorted((root / "shards").rglob("*.tar")):
            fs.unlink(shard)
            fs.sync_folder(shard.parent)
        assert recover(root).discarded
    assert pending(scratch, watch) == [LOCK]
