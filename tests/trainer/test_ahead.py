"""Batches made ahead come in order, errors in their place, and the end of a stream loses no signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from trainer.data.adapter import ahead_on
from trainer.data.reading import Drawn
from trainer.data.stream import Ahead

CPU = torch.device("cpu")


def drawn(at: int) -> Drawn:
    return Drawn(batch=None, state={"at": at}, read=1, left_out={})


def made(fail: int = -1, wait: threading.Event | None = None) -> Iterator[Drawn]:
    for at in range(10_000):
        if at == fail:
            raise ValueError(f"no {at}")
        if wait:
            wait.wait(5)
        yield drawn(at)


def data_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trainer-data"]


def test_values_come_in_order_and_an_error_in_its_place() -> None:
    stream = Ahead(made(fail=7), 3)
    assert [next(stream).state["at"] for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="no 7"):
        next(stream)
    assert next(stream, None) is None


def test_closing_what_is_around_a_stream_ends_its_thread() -> None:
    before = data_threads()
    stream = ahead_on(Ahead(made(), 2), CPU)
    next(stream)
    assert len(data_threads()) == len(before) + 1
    stream.close()  # type: ignore[attr-defined]
    assert data_threads() == before


def test_a_stream_that_nobody_closed_ends_its_thread_when_it_is_gone() -> None:
    before = data_threads()
    next(ahead_on(Ahead(made(), 2), CPU))
    for thread in set(data_threads()) - set(before):
        thread.join(timeout=5)
    assert data_threads() == before


class Ended(SystemExit):
    """What a signal's handler raises."""


def test_a_signal_while_a_stream_is_closed_comes_through() -> None:
    def end(number: int, frame: Any) -> None:
        raise Ended

    slow, kept = threading.Event(), signal.signal(signal.SIGUSR1, end)
    stream = ahead_on(Ahead(made(wait=slow), 2), CPU)

    def interrupt() -> None:
        while not any(thread.name == "closing" for thread in threading.enumerate()):
            time.sleep(0.001)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    try:
        slow.set()
        next(stream)
        slow.clear()
        threading.Thread(target=interrupt, daemon=True).start()
        threading.Thread(target=slow.wait, args=(2,), name="closing", daemon=True).start()
        with pytest.raises(Ended):
            stream.close()  # type: ignore[attr-defined]
            time.sleep(2)
    finally:
        slow.set()
        signal.signal(signal.SIGUSR1, kept)
