"""The line between producer, pool and consumer: in order, within its bounds, no deadlock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.build import pool
from shardkit.build.pool import MAX_ROWS, Bounds, Line, Outcome, Refusal, step_bytes
from shardkit.errors import SourceFailed
from shardkit.records.row import Member, Prepared, Row
from shardkit.records.sample import Sample
from shardkit.sources.base import Step


def step(at: int, size: int = 0) -> Step:
    return Step(row=Row(position=str(at), fields={}, blobs={"image": bytes(size)}), cursor={"at": at})


def outcome(given: Step) -> Outcome:
    return Outcome(position=given.row.position, cursor=given.cursor, result=Refusal("filtered", ""))


def kept(given: Step) -> Outcome:
    """A sample that is as large as its row."""
    assert isinstance(given.row, Row)
    sample = Sample(id="1", domain="d", category="c", source="s")
    result = Prepared(sample=sample, members=(Member(name="image0.png", data=given.row.blobs["image"]),))
    return Outcome(position=given.row.position, cursor=given.cursor, result=result)


def steps_of(sizes: list[int], read: list[int] | None = None) -> Generator[Step, None, None]:
    for at, size in enumerate(sizes):
        if read is not None:
            read.append(size)
        yield step(at, size)


def bounds(max_bytes: int = 1 << 20, threads: int = 3, seconds: float = 10.0, samples: int | None = None) -> Bounds:
    return Bounds(max_bytes=max_bytes, threads=threads, wait_seconds=seconds, samples=samples)


@given(st.lists(st.integers(0, 3000), max_size=120), st.integers(600, 5000), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_every_row_comes_once_and_in_order(sizes: list[int], max_bytes: int, threads: int) -> None:
    with Line(steps_of(sizes), outcome, bounds(max_bytes, threads)) as line:
        assert [int(each.position) for each in line] == list(range(len(sizes)))


def test_order_holds_when_work_takes_random_times() -> None:
    def work(given: Step) -> Outcome:
        time.sleep(random.random() / 500)
        return outcome(given)

    with Line(steps_of([40_000] * 60), work, bounds(threads=4)) as line:
        assert [int(each.position) for each in line] == list(range(60))


def test_bytes_and_rows_under_way_stay_bounded_with_a_slow_consumer() -> None:
    read: list[int] = []
    largest = 0
    sizes = [3000] * 300
    with Line(steps_of(sizes, read), kept, bounds(max_bytes=100_000)) as line:
        for done, _ in enumerate(line):
            if done < 20:
                time.sleep(0.005)
            largest = max(largest, len(read) - done)
    assert 10 < largest <= 100_000 // 3000 + 2
    read.clear()
    with Line(steps_of([0] * 3000, read), outcome, bounds(max_bytes=1 << 30)) as line:
        next(iter(line))
        time.sleep(0.2)
        assert len(read) <= MAX_ROWS + 64


def test_a_row_larger_than_the_bound_is_let_through_alone() -> None:
    with Line(steps_of([10, 500_000, 10, 600_000]), outcome, bounds(max_bytes=1000)) as line:
        assert len(list(line)) == 4


def test_errors_of_reading_come_after_the_rows_before_them() -> None:
    def failing() -> Generator[Step, None, None]:
        yield step(0)
        yield step(1)
        raise SourceFailed("gone")

    seen = []
    with Line(failing(), outcome, bounds()) as line, pytest.raises(SourceFailed, match="gone"):
        for each in line:
            seen.append(each.position)
    assert seen == ["0", "1"]


def test_work_that_hangs_is_an_error_that_names_the_row() -> None:
    released = threading.Event()

    def work(given: Step) -> Outcome:
        if given.row.position == "1":
            released.wait(20)
        return outcome(given)

    with (
        Line(steps_of([200_000] * 3), work, bounds(seconds=0.2)) as line,
        pytest.raises(SourceFailed, match="work on 1 took over"),
    ):
        list(line)
    released.set()


def test_a_source_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CLOSE_SECONDS", 0.1)
    released = threading.Event()

    def hanging() -> Generator[Step, None, None]:
        yield step(0)
        released.wait(20)

    with Line(hanging(), outcome, bounds(seconds=0.2)) as line, pytest.raises(SourceFailed, match="no row came"):
        list(line)
    released.set()


def test_no_row_is_read_that_cannot_be_needed() -> None:
    read: list[int] = []
    with Line(steps_of([0] * 100, read), outcome, bounds(samples=7)) as line:
        rows = iter(line)
        for _ in range(3):
            next(rows)
            line.give_back()
        for _ in range(7):
            next(rows)
    assert len(read) == 10


def test_a_row_counts_its_bytes() -> None:
    assert step_bytes(step(0, 5000)) >= 5000
