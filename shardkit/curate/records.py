"""The records (KEY.json) of a dataset's samples, without their media.

Here: reading them, checked.
Elsewhere: whole samples (read.dataset), what the index says without any record (read.listing).
"""

from __future__ import annotations

from collections.abc import Iterator

from shardkit.read.dataset import Dataset
from shardkit.read.shapes import record_to_show
from shardkit.records.sample import Sample, decode_sample

WHOLE_BYTES = 64 << 10
"""Samples of this size in the mean are read whole, in order: one read a block is cheaper than one a record."""


def read_records(dataset: Dataset) -> Iterator[tuple[int, int, Sample]]:
    """(shard, stored ordinal, record) of every live sample in stored order. Raises ShardDamaged, StorageFailed.

    In tars that others made the record is the one that shardkit makes of a sample's members.
    """
    extent = dataset.extent
    if any(entry.url for entry in dataset.manifest.shards) or extent.tar_bytes <= WHOLE_BYTES * extent.stored:
        yield from ((item.shard, item.ordinal, record_to_show(item)) for item in dataset)
        return
    for number in range(len(dataset)):
        shard, ordinal = dataset.live.stored_order(number)
        yield shard, ordinal, decode_sample(dataset.open_member(number, "json").read())
