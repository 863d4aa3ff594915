"""Disks that fill up, fail, take less than asked or lie: a clear error, nothing partial, the same version at last."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shardkit.errors import StorageFailed
from shardkit.store.faults import Faults, Setting
from tests.faults.conftest import Golden
from tools.faults.command import fail_each
from tools.faults.errors import KINDS, Injection, inject_each, settings
from tools.faults.runner import build_here


def injected(least: Golden, scratch: Path, fault: str, every: int = 1) -> list[Injection]:
    writes = sum(operation.kind == "write" for operation in least.log)
    chosen = [setting for setting in settings(len(least.log), writes, every) if setting.fault == fault]
    return list(inject_each(least.spec, least.version, chosen, scratch))


@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_failing_call_stops_the_build_and_the_resume_completes(least: Golden, scratch: Path, fault: str) -> None:
    done = injected(least, scratch, fault)
    assert [one for one in done if one.problems] == []
    stopped = Counter(one.setting.lasting for one in done if one.stopped)
    assert stopped[True] == len(least.log)
    assert stopped[False] > 0.8 * len(least.log)  # a temporary that cannot be removed is left to recovery


def test_short_writes_are_written_on(least: Golden, scratch: Path) -> None:
    done = injected(least, scratch, "short")
    assert [one for one in done if one.problems or one.stopped] == []


@pytest.mark.parametrize("fault", ["torn", "flip"])
def test_disk_that_lies_is_found_out_before_publishing(least: Golden, scratch: Path, fault: str) -> None:
    done = injected(least, scratch, fault)
    assert [one for one in done if one.problems] == []
    assert sum(not one.stopped for one in done) <= 1  # the lock's note of its holder, which nobody relies on


def test_every_kind_of_fault_is_tried() -> None:
    tried = {(setting.fault, setting.lasting) for setting in settings(3, 3)}
    assert tried == set(KINDS)


def test_command_shows_the_failing_file_and_exits_with_1(scratch: Path) -> None:
    shown = list(fail_each(scratch, 5))
    assert [one for one in shown if one.problems] == []
    assert any("No space left on device" in one.words for one in shown)
    assert any("Input/output error" in one.words for one in shown)


def test_failed_fsync_is_not_tried_again(least: Golden, scratch: Path) -> None:
    faults = Faults(Setting(fault="eio", at=1, kinds=("fsync",)), keep=True)
    with pytest.raises(StorageFailed):
        build_here(least.spec, scratch / "dataset", faults)
    synced = [operation.path for operation in faults.operations if operation.kind == "fsync"]
    assert synced == []
