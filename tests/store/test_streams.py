"""The thread that writes a shard's file beside the lane's: errors, waiting, memory, what is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.errors import SpecError, StorageFailed
from shardkit.store import fs, shard, streams
from shardkit.store.faults import Faults, Setting
from shardkit.store.fs import Instead, Operation
from shardkit.store.index import Facts, blake3_128
from shardkit.store.shard import ShardWriter
from shardkit.store.streams import FileOut
from tests.store.made import media_sample, text_sample

SAMPLES = [media_sample(1), *(text_sample(n) for n in range(5)), media_sample(2, 40_000)]


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files of any size get a thread of their own; nobody observes the calls afterwards."""
    monkeypatch.setattr(streams, "ALONE_BYTES", 0)
    monkeypatch.setattr(shard, "PUT_BYTES", 4_000)
    before = fs.observe(None)
    yield
    fs.observe(before)
    assert writing_threads() == []


def writing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("shard-writer")]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def writer_in(folder: Path) -> ShardWriter:
    return ShardWriter(folder, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)


class Slow:
    """A disk on which each write takes a moment; `interrupt`: Ctrl-C comes at the first fsync of a file."""

    def __init__(self, *, interrupt: bool = False) -> None:
        self._interrupt = interrupt

    def before(self, operation: Operation) -> Instead | None:
        time.sleep(0.02)
        if self._interrupt and operation.kind == "fsync":
            raise KeyboardInterrupt
        return None

    def after(self, operation: Operation) -> None:
        """Nothing more."""


@pytest.mark.usefixtures("threaded")
def test_error_of_the_thread_is_raised_by_everything_that_follows(tmp_path: Path) -> None:
    fs.observe(Faults(Setting(fault="enospc", at=2, kinds=("write",))))
    file = fs.NewFile(tmp_path / "file")
    out = FileOut(file)
    out.put([b"first"])
    out.put([b"second"])
    for again in (out.finish, out.finish, lambda: out.force(lambda: pytest.fail("it was read back"))):
        with pytest.raises(StorageFailed, match="No space left"):
            again()
    out.close()
    file.discard()
    assert files(tmp_path) == []


@pytest.mark.usefixtures("threaded")
def test_failed_fsync_of_the_thread_is_not_tried_again_and_nothing_is_left(tmp_path: Path) -> None:
    fs.observe(faults := Faults(Setting(fault="eio", at=1, kinds=("fsync",))))
    writer = writer_in(tmp_path)
    writer.fill(writer.encode(SAMPLES))
    assert writing_threads()
    with pytest.raises(StorageFailed, match=r"cannot fsync .*Input/output error"):
        writer.seal()
    assert faults.calls == 1
    assert files(tmp_path) == []


class LateFailure(Faults):
    """An fsync that fails only a while after everything else is done."""

    def before(self, operation: Operation) -> Instead | None:
        if operation.kind == "fsync":
            time.sleep(0.3)
        return super().before(operation)


@pytest.mark.usefixtures("threaded")
def test_an_fsync_that_fails_behind_the_read_back_is_waited_for(tmp_path: Path) -> None:
    fs.observe(LateFailure(Setting(fault="eio", at=1, kinds=("fsync",))))
    writer = writer_in(tmp_path)
    writer.fill(writer.encode(SAMPLES))
    with pytest.raises(StorageFailed, match=r"cannot fsync .*Input/output error"):
        writer.seal()
    assert files(tmp_path) == []


@pytest.mark.usefixtures("threaded")
def test_a_bad_read_back_waits_for_the_fsync_and_leaves_nothing(tmp_path: Path) -> None:
    fs.observe(faults := Faults(Setting(fault="flip", at=2, kinds=("write",)), keep=True))
    writer = writer_in(tmp_path)
    writer.fill(writer.encode(SAMPLES))
    with pytest.raises(StorageFailed, match="read back"):
        writer.seal()
    assert [one.kind for one in faults.operations][-2:] == ["fsync", "unlink"]
    assert files(tmp_path) == []


@pytest.mark.usefixtures("threaded")
def test_interrupted_shard_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    fs.observe(Slow(interrupt=True))
    writer = writer_in(tmp_path)
    writer.fill(writer.encode(SAMPLES))
    with pytest.raises(KeyboardInterrupt):
        writer.seal()
    assert files(tmp_path) == []


@pytest.mark.usefixtures("threaded")
def test_abandoned_shard_leaves_no_file_and_no_thread_while_writes_wait(tmp_path: Path) -> None:
    fs.observe(Slow())
    writer = writer_in(tmp_path)
    writer.fill(writer.encode(SAMPLES))
    assert writing_threads()
    writer.abandon()
    writer.abandon()
    assert files(tmp_path) == []


@pytest.mark.usefixtures("threaded")
def test_a_large_buffer_is_not_kept_while_the_next_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WAITING_BYTES", 100)
    fs.observe(Slow())
    with fs.NewFile(tmp_path / "file") as file:
        out = FileOut(file)
        for size in (50, 101, 70, 5_000):
            out.put([bytes(size)])
            assert size <= 100 or file.bytes == out.position
        out.finish()
        out.close()


def test_descriptor_that_cannot_be_closed_is_a_failure_of_storage(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.add(SAMPLES[0])
    file = writer._file

    def close_behind_its_back() -> None:
        os.close(file._fd)

    class AfterFsync(Slow):
        def after(self, operation: Operation) -> None:
            if operation.kind == "fsync":
                close_behind_its_back()

    before = fs.observe(AfterFsync())
    try:
        with pytest.raises(StorageFailed, match=r"cannot close .*Bad file descriptor"):
            writer.seal()
    finally:
        fs.observe(before)
    assert files(tmp_path) == []


def test_more_words_than_an_index_counts_end_the_shard_with_an_error_that_says_so(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    data = b"{}"
    parts = [("json", data, blake3_128(data))]
    samples = ((f"{n:032x}", parts, Facts(1, 0, 0, 0, 0, "s", f"c{n}", "text", "")) for n in range(66_000))
    with pytest.raises(SpecError, match=r"65,536 different .*limits\.shard_samples"):
        writer.fill(samples)
        writer.seal()
    writer.abandon()
    assert files(tmp_path) == []
