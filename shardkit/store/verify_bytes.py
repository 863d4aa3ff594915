"""Verifying the bytes of one shard and its index against their digests, as fast as they can be read.

Here: one pass over the bytes, read ahead; what is damaged inside is looked for only where a digest is wrong.
Elsewhere: what must agree with what inside a shard (verify_shard.py), the dataset's chain (verify.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import blake3

from shardkit.store.index import IndexReader
from shardkit.store.layout import ShardEntry, index_path, shard_path
from shardkit.store.urls import ByteStore
from shardkit.store.verify_shard import Findings, check_length, verify_shard

PIECE_BYTES = 4 << 20
PIECES_AHEAD = {False: 2, True: 8}
"""Pieces under way, by whether the store is remote: a disk needs one while another is hashed, a link its latency."""


def verify_bytes(store: ByteStore, entry: ShardEntry, findings: Findings) -> None:
    """Compare a shard and its index with the digests in the manifest's entry; damages are named as by `verify_shard`.

    Memory: a few pieces of 4 MiB and the index. Raises StorageFailed.
    """
    path = shard_path(entry)
    before = len(findings.damages)
    with findings.watch("index", index_path(entry.index.digest)):
        findings.members += len(IndexReader(store, entry).whole().member_digests) // 16
        check_length(store, index_path(entry.index.digest), entry.index.bytes)
    with findings.watch("shard", path):
        check_length(store, path, entry.shard.bytes)
        digest = blake3.blake3()
        for piece in _pieces(store, path, entry.shard.bytes):
            digest.update(piece)
            findings.advance(len(piece))
        if digest.hexdigest() != entry.shard.digest:
            _look_inside(store, entry, findings)
    if len(findings.damages) == before:
        findings.samples += entry.samples


def _look_inside(store: ByteStore, entry: ShardEntry, findings: Findings) -> None:
    """Read the shard once more to say which samples and members are damaged."""
    inside = Findings()
    verify_shard(store, entry, inside)
    findings.samples += inside.samples
    findings.damages += inside.damages
    if not inside.damages:
        findings.damage("shard", shard_path(entry), f"its bytes did not have the digest {entry.shard.digest} when read")


def _pieces(store: ByteStore, path: str, size: int) -> Iterator[bytes]:
    """The bytes of a file in order, the next pieces being read while one is looked at."""
    ahead = PIECES_AHEAD[store.is_remote]
    pool = ThreadPoolExecutor(ahead, thread_name_prefix="shardkit-verify")
    waiting: deque[Future[bytes]] = deque()
    try:
        for at in range(0, size, PIECE_BYTES):
            waiting.append(pool.submit(store.read_range, path, at, min(PIECE_BYTES, size - at)))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
