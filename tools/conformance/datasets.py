"""Tiny datasets of random shape, on which resumes are tried.

Here: shapes (shards, blocks, omissions, empty shards), and writing them with the store's own writer.
Elsewhere: the cases (resume.py), peers' datasets (peers).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shardkit import Dataset, open_dataset
from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Image, Message, Modalities, Sample
from shardkit.spec import Codec
from shardkit.store.layout import ColumnRef, LaneTotals, Manifest, PlanRecord, ShardEntry, Totals
from shardkit.store.publish import lock, publish_omitted, publish_shard, publish_version
from shardkit.store.shard import ShardWriter

CATEGORIES = ("a", "b", "c")


class Shape(NamedTuple):
    """Samples of each shard, samples a block, omitted ordinals by shard, and the form of the shards."""

    sizes: tuple[int, ...]
    block: int
    omitted: dict[int, tuple[int, ...]]
    codec: Codec

    @property
    def live(self) -> tuple[tuple[int, ...], ...]:
        """The live ordinals of every shard."""
        return tuple(
            tuple(at for at in range(size) if at not in self.omitted.get(shard, ()))
            for shard, size in enumerate(self.sizes)
        )


class Tiny(NamedTuple):
    """A dataset, its shape, and its keys by shard and ordinal."""

    shape: Shape
    dataset: Dataset
    keys: dict[tuple[int, int], str]


def random_shape(rng: random.Random, most: int = 120) -> Shape:
    """A shape of about `most` samples: one sample, one shard, uneven shards, shards without live samples."""
    kind = rng.choice(("one", "single", "even", "uneven", "uneven", "small shards"))
    sizes = _sizes(kind, rng, most)
    omitted: dict[int, tuple[int, ...]] = {}
    if sum(sizes) > 1 and rng.random() < 0.5:
        for shard, size in enumerate(sizes):
            chance = rng.choice((0.0, 0.0, 0.2, 1.0))
            gone = tuple(at for at in range(size) if rng.random() < chance)
            if gone:
                omitted[shard] = gone
        if all(len(omitted.get(shard, ())) == size for shard, size in enumerate(sizes)):
            omitted = {}
    codec: Codec = rng.choice(("tar", "tar", "tar.zst"))
    return Shape(sizes, rng.choice((1, 2, 3, 4, 8, 16)), omitted, codec)


def _sizes(kind: str, rng: random.Random, most: int) -> tuple[int, ...]:
    if kind == "one":
        return (1,)
    if kind == "single":
        return (rng.randint(2, most),)
    if kind == "even":
        shards = rng.randint(2, 6)
        return (rng.randint(1, most // shards),) * shards
    if kind == "small shards":
        return tuple(rng.randint(1, 3) for _ in range(rng.randint(2, 20)))
    shards = rng.randint(2, 8)
    return tuple(rng.choice((1, rng.randint(1, most // shards), most // 3)) for _ in range(shards))


def make_tiny(folder: Path, shape: Shape, first: int = 0) -> Tiny:
    """Write a dataset of this shape into an empty folder; contents are numbered from `first`, so that keys differ."""
    number = first
    keys: dict[tuple[int, int], str] = {}
    with lock(folder):
        entries = []
        for shard, size in enumerate(shape.sizes):
            writer = ShardWriter(
                folder, source="s", lane="s-0", ordinal=shard, codec=shape.codec, block_samples=shape.block
            )
            for _ in range(size):
                writer.add(sample_of(number))
                number += 1
            staged = writer.seal(durable=False)
            publish_shard(folder, staged)
            entries.append(staged.entry)
        columns = (publish_omitted(folder, shape.omitted),) if shape.omitted else ()
        publish_version(folder, manifest_of(entries, shape, columns))
    dataset = open_dataset(folder)
    for shard, ordinals in enumerate(shape.live):
        for ordinal in ordinals:
            keys[shard, ordinal] = dataset.fetcher.read(dataset.fetcher.find_one(shard, ordinal)).key
    return Tiny(shape, dataset, keys)


def sample_of(number: int) -> Prepared:
    """The number-th sample: a text of varying length, every fourth with an image (of random bytes)."""
    text = "word " * (1 + number * 7919 % 40)
    question = Message(role="user", content=f"{'<|image|>' if number % 4 == 0 else ''}question {number}")
    messages = (question, Message(role="assistant", content=text))
    modalities = Modalities()
    members: tuple[Member, ...] = ()
    if number % 4 == 0:
        modalities = Modalities(image=(Image(member="image0.png", type="photo", width=2, height=2),))
        members = (Member(name="image0.png", data=random.Random(number).randbytes(100 + number % 97)),)
    category = CATEGORIES[number % 3]
    sample = Sample(id=str(number), messages=messages, domain="d", category=category, source="s", modalities=modalities)
    return Prepared(sample=sample, members=members)


def manifest_of(entries: Sequence[ShardEntry], shape: Shape, columns: tuple[ColumnRef, ...]) -> Manifest:
    """The manifest of a tiny dataset."""
    gone = sum(map(len, shape.omitted.values()))
    samples = sum(shape.sizes)
    return Manifest(
        name="tiny",
        block_samples=shape.block,
        plan=PlanRecord(name="tiny", seed=0, duplicates="keep", limits={}, sources=(), lanes=()),
        plan_digest="0" * 64,
        totals=Totals(
            samples=samples - gone, shards=len(entries), bytes=sum(e.shard.bytes for e in entries), omitted=gone
        ),
        lanes={"s-0": LaneTotals(rows=samples, samples=samples)},
        shards=tuple(entries),
        columns=columns,
    )
