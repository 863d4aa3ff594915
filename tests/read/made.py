"""Small datasets for the tests of reading, made with the store's own writer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Image, Message, Modalities, Sample
from shardkit.spec import Codec
from shardkit.store.layout import Totals
from shardkit.store.publish import lock, publish_omitted, publish_shard, publish_version
from shardkit.store.shard import ShardWriter
from tests.store.made import manifest_of, text_sample

__all__ = ["image_sample", "make_dataset", "numbered", "text_sample"]


def image_sample(number: int, size: int = 200) -> Prepared:
    """A text with an image of about `size` bytes (no real image)."""
    data = random.Random(number).randbytes(size + number % 7)
    sample = Sample(
        id=f"i{number}",
        messages=(Message(role="user", content=f"<|image|> {number}?"), Message(role="assistant", content="yes")),
        domain="d",
        category="c",
        source="images",
        modalities=Modalities(image=(Image(member="image0.png", type="photo", width=2, height=2),)),
    )
    return Prepared(sample=sample, members=(Member(name="image0.png", data=data),))


def make_dataset(
    root: Path,
    shards: Sequence[Iterable[Prepared]],
    *,
    codec: Codec = "tar",
    block: int = 4,
    omitted: Mapping[int, Sequence[int]] | None = None,
) -> str:
    """Publish a dataset of these shards; its version."""
    with lock(root):
        entries = []
        for ordinal, samples in enumerate(shards):
            writer = ShardWriter(root, source="s", lane="s-0", ordinal=ordinal, codec=codec, block_samples=block)
            for sample in samples:
                assert writer.add(sample)
            staged = writer.seal(durable=False)
            publish_shard(root, staged)
            entries.append(staged.entry)
        columns = (publish_omitted(root, omitted),) if omitted else ()
        stored, left_out = sum(entry.samples for entry in entries), sum(len(gone) for gone in (omitted or {}).values())
        totals = Totals(
            samples=stored - left_out,
            shards=len(entries),
            bytes=sum(entry.shard.bytes for entry in entries),
            omitted=left_out,
        )
        return publish_version(root, manifest_of(entries, block_samples=block, columns=columns, totals=totals))


def numbered(sizes: Sequence[int], images: bool = True) -> list[list[Prepared]]:
    """Shards of so many samples; every third sample has an image."""
    made, number = [], 0
    for size in sizes:
        made.append(
            [image_sample(n) if images and n % 3 == 0 else text_sample(n) for n in range(number, number + size)]
        )
        number += size
    return made
