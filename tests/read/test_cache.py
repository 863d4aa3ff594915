"""The cache under threads: every value loaded once, also where a reader comes before the thread that was to load it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shardkit.read.cache import ByteCache


def test_a_reader_that_comes_before_the_thread_waits_for_it_instead_of_loading_again() -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)
    loads: list[str] = []
    gate = threading.Event()

    def load() -> bytes:
        loads.append(threading.current_thread().name)
        return b"value"

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        pool.submit(gate.wait)
        assert cache.start("key", load, pool)
        assert not cache.start("key", load, pool)
        reader = ThreadPoolExecutor(1)
        taken = reader.submit(cache.take, "key", load)
        gate.set()
        assert taken.result(timeout=10) == b"value"
    assert len(loads) == 1 and loads[0].startswith("pool")
    assert (cache.bytes, cache.ready) == (0, {})


def test_work_given_up_before_it_began_is_loaded_by_whoever_waits() -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)
    gate = threading.Event()
    pool, readers = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    pool.submit(gate.wait)
    cache.start("key", lambda: b"by the pool", pool)
    waiting = readers.submit(cache.get, "key", lambda: b"by the reader")
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert waiting.result(timeout=10) == b"by the reader"
    assert cache.get("key", lambda: b"again") == b"by the reader"


def test_a_pool_that_is_closed_leaves_nothing_behind() -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        cache.start("key", lambda: b"never", pool)
    assert cache.get("key", lambda: b"value") == b"value"


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    cache: ByteCache[bytes] = ByteCache(100, len)

    def fail() -> bytes:
        raise OSError("no")

    with ThreadPoolExecutor(1) as pool:
        cache.start("key", fail, pool)
    with pytest.raises(OSError, match="no"):
        cache.get("key", fail)
    assert cache.get("key", lambda: b"value") == b"value"
