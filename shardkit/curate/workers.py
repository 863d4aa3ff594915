"""Fingerprints of all shards, in this process or several, always in one order.

Here: the processes, what they hand over, in which order it is taken.
Elsewhere: the fingerprints of a shard (fingerprints.py).
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from shardkit.curate.fingerprints import Batch, fingerprint_shard
from shardkit.curate.ngrams import Grams
from shardkit.errors import ShardkitError
from shardkit.read.dataset import Dataset
from shardkit.spec import DedupOptions
from shardkit.store import fs

STAGED = f"{fs.STAGE}dedup-shard-"


class Work(NamedTuple):
    """What every process is given; `folder` is where they leave what they made."""

    dataset: Dataset
    options: DedupOptions
    grams: Grams | None
    folder: Path


def fingerprint_all(work: Work, workers: int) -> Iterator[tuple[int, Batch]]:
    """(shard, batch) of all shards in order, those of held-out sources first; nothing of it depends on `workers`.

    With 0 or 1 this process does it all. Otherwise whole shards are made side by side and wait on disk for their turn.
    Raises ShardDamaged, StorageFailed.
    """
    held_out = work.dataset.manifest.plan.held_out
    entries = work.dataset.manifest.shards
    shards = sorted(range(len(entries)), key=lambda at: entries[at].source not in held_out)
    if workers <= 1 or len(shards) == 1:
        for shard in shards:
            for batch in fingerprint_shard(work.dataset, shard, work.options, work.grams):
                yield shard, batch
        return
    with _deaths_named():
        yield from _side_by_side(work, workers, shards)


@contextlib.contextmanager
def _deaths_named() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise ShardkitError(
            "a worker was killed, perhaps for the memory that it took; run the same command again with fewer --workers"
        ) from None


def _side_by_side(work: Work, workers: int, shards: Sequence[int]) -> Iterator[tuple[int, Batch]]:
    with _pool(work, workers) as pool:
        waiting: deque[tuple[int, Future[Handed]]] = deque()
        for shard in shards:
            with _signals_held():  # the first ones start the processes
                waiting.append((shard, pool.submit(_make, shard)))
            if len(waiting) > 2 * workers:
                yield from _taken(*waiting.popleft())
        while waiting:
            yield from _taken(*waiting.popleft())


@contextlib.contextmanager
def _pool(work: Work, workers: int) -> Iterator[ProcessPoolExecutor]:
    """The processes. An error or a signal ends them at once, whatever they are at, and removes what they have made."""
    others = {child.pid for child in multiprocessing.active_children()}
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(work,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        own = [child for child in multiprocessing.active_children() if child.pid not in others]
        for child in own:
            child.terminate()
        for child in own:
            child.join()
        for path in work.folder.glob(f"{STAGED}*"):
            with contextlib.suppress(OSError):
                fs.unlink(path)
        raise
    pool.shutdown()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that start here never get a Ctrl-C, which goes to all of a terminal: the parent answers it.

    Blocked here it reaches the parent by another thread all the same, and would be raised in the middle of a start: it
    is answered when this is over.
    """
    came: list[int] = []
    first = threading.current_thread() is threading.main_thread()
    answer = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if first else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one that was held back comes now
        if first:
            signal.signal(signal.SIGINT, answer)
    if came:
        signal.raise_signal(signal.SIGINT)


class Handed(NamedTuple):
    """A shard's batches in a file, and the XXH3-64 of what was written."""

    path: Path
    digest: bytes


_work: Work | None = None


def _begin(work: Work) -> None:
    global _work
    _work = work
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A pool's processes wait for ever for work where their parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _make(shard: int) -> Handed:
    """Write a shard's batches into a file of its own."""
    assert _work is not None, "the initializer sets it"
    path = _work.folder / f"{STAGED}{shard}-{os.getpid()}"
    digest = xxhash.xxh3_64()
    with fs.NewFile(path) as file:
        for batch in fingerprint_shard(_work.dataset, shard, _work.options, _work.grams):
            counts = np.array([batch.passed, batch.unreadable])
            for array in (batch.rows, batch.shingles, batch.photos, batch.bands, batch.hits, counts):
                packed = _packed(array)
                file.write(packed)
                digest.update(packed)
    return Handed(path, digest.digest())


def _packed(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _taken(shard: int, future: Future[Handed]) -> Iterator[tuple[int, Batch]]:
    path, digest = future.result()
    try:
        found = xxhash.xxh3_64()
        for chunk in fs.read_chunks(path):
            found.update(chunk)
        if found.digest() != digest:
            raise fs.read_back_differs(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            while file.tell() < size:
                rows, shingles, photos, bands, hits, counts = (np.load(file, allow_pickle=False) for _ in range(6))
                yield shard, Batch(rows, shingles, photos, bands, hits, *counts.tolist())
    finally:
        fs.unlink(path)
