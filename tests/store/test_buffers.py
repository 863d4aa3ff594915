"""Buffers: never given out while somebody looks at them, and given out again when nobody does."""

from __future__ import annotations

import random
import threading

from shardkit.store import buffers
from shardkit.store.buffers import Buffers


def test_a_buffer_in_view_is_never_given_out_again() -> None:
    pool, choose = Buffers(), random.Random(0)
    held: list[tuple[memoryview, int]] = []
    for mark in range(3000):
        size = choose.choice([100, 9000, 9100, 54_000, 60_000])
        view = pool.take(size)
        assert len(view) == size
        view[:] = bytes([mark % 251]) * size
        held.append((view[1:-1].toreadonly(), mark % 251))
        del view
        for _ in range(choose.choice([0, 1, 1, 2])):
            if len(held) > 5:
                kept, wanted = held.pop(choose.randrange(len(held)))
                assert kept[0] == kept[-1] == wanted
                del kept
    assert all(view[0] == view[-1] == mark for view, mark in held)


def test_memory_is_used_again_and_bounded() -> None:
    pool = Buffers()
    for _ in range(100):
        views = [pool.take(50_000) for _ in range(8)]
        del views
    assert len(next(iter(pool._rings.values()))) == 8
    kept = [pool.take(1 << 20) for _ in range(300)]
    assert pool._bytes <= buffers.POOL_BYTES and len({id(view.obj) for view in kept}) == 300


def test_threads_never_share_a_buffer() -> None:
    pool, wrong = Buffers(), []

    def work(mark: int) -> None:
        for _ in range(2000):
            view = pool.take(10_000)
            view[:8] = bytes([mark]) * 8
            if bytes(view[:8]) != bytes([mark]) * 8:
                wrong.append(mark)
            del view

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
