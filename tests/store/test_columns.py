"""Samples given to the writer as columns make the shards that they make one by one, and are refused as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from shardkit.errors import Refused
from shardkit.records.key import sample_key
from shardkit.records.row import Prepared
from shardkit.records.sample import encode_sample
from shardkit.spec import Codec
from shardkit.store import shard
from shardkit.store.index import Facts, blake3_128, facts_of
from shardkit.store.shard import ShardWriter
from shardkit.store.spans import EncodedColumns
from tests.store.made import media_sample, text_sample

SAMPLES = [media_sample(1), *(text_sample(n) for n in range(5)), media_sample(2, 40_000)]
CODECS: tuple[Codec, ...] = ("tar", "tar.zst")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("limits", [{}, {"max_samples": 3}, {"max_bytes": 6_000}, {"max_bytes": 1}])
@pytest.mark.parametrize("alike", [True, False])
def test_samples_given_as_columns_make_the_same_shards_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: Codec, limits: dict[str, int], alike: bool
) -> None:
    samples = [*(text_sample(n) for n in range(9))] if alike else [media_sample(3, 9_000), *SAMPLES, SAMPLES[0]]
    columns = as_columns(samples)
    monkeypatch.setattr(shard, "TOGETHER", 4)
    for put in (1 << 20, 9_500, 1):
        monkeypatch.setattr(shard, "PUT_BYTES", put)
        left, at = iter(samples), 0
        while at < len(samples):
            ours, theirs = (writer_in(tmp_path / name, codec) for name in ("columns", "rows"))
            theirs.fill(theirs.encode(left), **limits)
            at = ours.fill_columns(columns, begin=at, **limits)
            assert (ours.samples, ours.tar_bytes) == (theirs.samples, theirs.tar_bytes)
            made, wanted = ours.seal(), theirs.seal()
            assert made.entry == wanted.entry
            assert made.shard.read_bytes() == wanted.shard.read_bytes()
            assert made.index.read_bytes() == wanted.index.read_bytes()
            for path in (made.shard, made.index, wanted.shard, wanted.index):
                path.unlink()
        assert list(left) == []


@pytest.mark.parametrize(("name", "reason"), [("image", "schema"), ("a.json", "schema")])
def test_columns_with_a_bad_member_are_refused_and_what_is_before_it_is_in_the_shard(
    tmp_path: Path, name: str, reason: str
) -> None:
    columns = as_columns(SAMPLES[:3])
    last = columns._replace(names=[*columns.names[:-1], name])
    writer = writer_in(tmp_path)
    with pytest.raises(Refused) as refused:
        writer.fill_columns(last)
    assert refused.value.reason == reason
    assert writer.samples == 2
    writer.abandon()


def test_columns_with_more_than_the_index_can_count_are_refused(tmp_path: Path) -> None:
    columns = as_columns([text_sample(1)])
    large = columns._replace(facts=[Facts(1 << 32, 0, 0, 0, 0, "s", "c", "text", "")])
    writer = writer_in(tmp_path)
    with pytest.raises(Refused, match="can count"):
        writer.fill_columns(large)
    assert writer.samples == 0
    writer.abandon()


def test_samples_before_one_that_the_index_cannot_count_are_in_the_shard(tmp_path: Path) -> None:
    columns = as_columns([text_sample(n) for n in range(3)])
    facts = [*columns.facts[:2], Facts(1 << 32, 0, 0, 0, 0, "s", "c", "text", "")]
    writer = writer_in(tmp_path)
    with pytest.raises(Refused, match="can count"):
        writer.fill_columns(columns._replace(facts=facts))
    assert writer.samples == 2
    writer.abandon()


def writer_in(folder: Path, codec: Codec = "tar") -> ShardWriter:
    return ShardWriter(folder, source="s", lane="s-0", ordinal=0, codec=codec, block_samples=2)


def as_columns(samples: Sequence[Prepared]) -> EncodedColumns:
    members = [
        [("json", encode_sample(one.sample)), *((member.name, member.data) for member in one.members)]
        for one in samples
    ]
    names, data = zip(*(member for one in members for member in one), strict=True)
    return EncodedColumns(
        keys=[sample_key(one.sample, one.members) for one in samples],
        facts=[facts_of(one.sample) for one in samples],
        counts=[len(one) for one in members],
        names=names,
        data=data,
        digests=[blake3_128(one) for one in data],
    )
