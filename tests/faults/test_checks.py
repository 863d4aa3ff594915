"""Checks that another check usually stands in front of: each notices on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from shardkit.errors import ShardDamaged
from shardkit.read.dataset import open_dataset
from shardkit.store import shard, tar
from shardkit.store.index import IndexReader
from shardkit.store.layout import index_path, shard_path
from shardkit.store.manifest import decompress_block, read_manifest
from shardkit.store.publish import lock, publish_shard, publish_version
from shardkit.store.urls import open_store
from shardkit.store.verify import verify
from tests.store.made import build_tiny, manifest_of, stage, text_sample


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def silent_flips(root: Path, path: str, read: Callable[[], object], step: int) -> list[int]:
    """Which of every `step`-th byte of a file can be altered so that `read` gives something else without an error."""
    good = read()
    silent = []
    for at in range(0, (root / path).stat().st_size, step):
        flip(root / path, at)
        try:
            if read() != good:
                silent.append(at)
        except ShardDamaged:
            pass
        flip(root / path, at)
    return silent


def test_head_and_single_pages_of_an_index_have_digests_of_their_own(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    entry = read_manifest(open_store(tmp_path))[1].shards[0]

    def read() -> object:
        reader = IndexReader(open_store(tmp_path), entry)
        return [(reader.head, reader.page(block)) for block in range(len(reader.head.pages))]

    assert silent_flips(tmp_path, index_path(entry.index.digest), read, 3) == []


def test_samples_read_in_stored_order_are_checked(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    entry = read_manifest(open_store(tmp_path))[1].shards[1]

    def read() -> object:
        return [
            (item.key, {name: bytes(data) for name, data in item.members.items()}) for item in open_dataset(tmp_path)
        ]

    assert silent_flips(tmp_path, shard_path(entry), read, 23) == []


def test_end_of_a_tar_that_is_not_zeros_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(tmp_path), monkeypatch.context() as patch:
        patch.setattr(shard.tar, "END", b"\1" * len(tar.END))
        staged = stage(tmp_path, [text_sample(1)])
        publish_shard(tmp_path, staged)
    publish_version(tmp_path, manifest_of([staged.entry]))
    damages = verify(open_store(tmp_path)).damages
    assert ["two zero blocks" in damage.message for damage in damages] == [True]


def test_frame_that_holds_less_than_the_index_says_is_damage() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=True).compress(b"abc")
    assert decompress_block(packed, 3, "x") == b"abc"
    with pytest.raises(ShardDamaged, match="holds 3 bytes, the index says 4"):
        decompress_block(packed, 4, "x")
