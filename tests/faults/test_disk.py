"""The model of a disk that loses power does what POSIX allows, and no more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from shardkit.store.fs import Operation
from tools.faults.disk import LOSSES, Disk

BASE = Path("/disk")


def op(kind: str, path: str, target: str = "", data: bytes = b"", offset: int = 0) -> Operation:
    return Operation(kind, f"/disk/{path}", f"/disk/{target}" if target else "", data, offset)  # type: ignore[arg-type]


FOLDER = [op("mkdir", "d"), Operation("fsync_folder", "/disk")]
WRITTEN = [*FOLDER, op("create", "d/t"), op("write", "d/t", data=b"abcd"), op("write", "d/t", data=b"efgh", offset=4)]
SYNCED = [*WRITTEN, op("fsync", "d/t")]
LINKED = [*SYNCED, op("link", "d/t", "d/f"), op("unlink", "d/t")]
PUBLISHED = [*LINKED, op("fsync_folder", "d")]


def states(log: Sequence[Operation], count: int = 400) -> list[dict[str, bytes | None]]:
    found = []
    for seed in range(count):
        disk = Disk(BASE)
        disk.replay(log)
        found.append(disk.cut(random.Random(seed), LOSSES[seed % len(LOSSES)]))
    return found


def test_published_file_is_there_in_every_state() -> None:
    assert all(state == {"d": None, "d/f": b"abcdefgh"} for state in states(PUBLISHED))


def test_unsynced_data_may_be_missing_torn_zero_or_reordered() -> None:
    seen = {state.get("d/t") for state in states([*WRITTEN, op("fsync_folder", "d")])}
    assert {b"", b"abcdefgh", b"abcd", b"\0\0\0\0efgh", bytes(8), b"abcdef"} <= seen


def test_synced_data_is_whole_under_whatever_name_is_left() -> None:
    names = set()
    for state in states(LINKED):
        there = {name: data for name, data in state.items() if name != "d"}
        assert set(there.values()) <= {b"abcdefgh"}
        names.add(tuple(sorted(there)))
    assert names == {(), ("d/f",), ("d/t",), ("d/f", "d/t")}


def test_folder_whose_parent_was_not_synced_may_be_gone_with_all_in_it() -> None:
    log = [operation for operation in PUBLISHED if operation != FOLDER[1]]
    assert {len(state) for state in states(log)} == {0, 2}


def test_replaced_file_is_the_old_or_the_new_one() -> None:
    log = [*PUBLISHED, op("create", "d/n"), op("write", "d/n", data=b"new"), op("fsync", "d/n")]
    log.append(op("replace", "d/n", "d/f"))
    assert {state["d/f"] for state in states(log)} == {b"abcdefgh", b"new"}


def test_removed_name_may_come_back_until_its_folder_is_synced() -> None:
    removed = [*PUBLISHED, op("unlink", "d/f")]
    assert {"d/f" in state for state in states(removed)} == {True, False}
    assert {"d/f" in state for state in states([*removed, op("fsync_folder", "d")])} == {False}
