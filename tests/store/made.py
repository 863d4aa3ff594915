"""Small samples, shards and datasets for the tests of the store and its neighbours."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Audio, Image, Keyframe, Message, Modalities, Sample, Video
from shardkit.spec import Codec
from shardkit.store.layout import (
    Commit,
    DeadLetter,
    LaneTotals,
    Manifest,
    PlanRecord,
    ShardEntry,
    Totals,
)
from shardkit.store.publish import (
    lock,
    publish_dead_letters,
    publish_omitted,
    publish_shard,
    publish_version,
    write_commit,
)
from shardkit.store.shard import ShardWriter, StagedShard


def text_sample(number: int, text: str = "answer") -> Prepared:
    messages = (Message(role="user", content=f"question {number}"), Message(role="assistant", content=text))
    return Prepared(sample=Sample(id=f"t{number}", messages=messages, domain="d", category="c", source="s"))


def media_sample(number: int, size: int = 30) -> Prepared:
    """An image, a recording and a video of two frames; the bytes are no real media."""
    data = [random.Random(5 * number + at).randbytes(size + at) for at in range(5)]
    frames = tuple(Keyframe(member=f"video0.kf{at:05d}.jpg", pts_seconds=at / 3) for at in range(2))
    names = ("image0.png", "audio0.flac", *(frame.member for frame in frames), "video0.audio.flac")
    modalities = Modalities(
        image=(Image(member="image0.png", type="photo", width=4, height=3),),
        audio=(Audio(member="audio0.flac", type="speech", duration_seconds=0.25, sample_rate=16000),),
        video=(
            Video(
                name="video0", type="footage", duration_seconds=1.5, fps=3.0, width=8, height=6,
                keyframes=frames, audio="video0.audio.flac",
            ),
        ),
    )  # fmt: skip
    sample = Sample(
        id=f"m{number}",
        messages=(Message(role="user", content="<|image|><|audio|><|video|>?"), Message(role="assistant", content="é")),
        domain="d",
        category="c2",
        source="s",
        modalities=modalities,
        licence="CC0-1.0",
    )
    return Prepared(sample=sample, members=tuple(Member(name=n, data=d) for n, d in zip(names, data, strict=True)))


def stage(
    root: Path, samples: Iterable[Prepared], *, codec: Codec = "tar", block_samples: int = 2, ordinal: int = 0
) -> StagedShard:
    writer = ShardWriter(root, source="s", lane="s-0", ordinal=ordinal, codec=codec, block_samples=block_samples)
    for sample in samples:
        assert writer.add(sample)
    return writer.seal()


def manifest_of(entries: Iterable[ShardEntry], **fields: object) -> Manifest:
    shards = tuple(entries)
    samples = sum(entry.samples for entry in shards)
    base: dict[str, object] = {
        "name": "tiny",
        "block_samples": 2,
        "plan": PlanRecord(name="tiny", seed=0, duplicates="omit", limits={}, sources=(), lanes=()),
        "plan_digest": "0" * 64,
        "totals": Totals(samples=samples, shards=len(shards), bytes=sum(entry.shard.bytes for entry in shards)),
        "shards": shards,
    }
    return Manifest(**(base | fields))  # type: ignore[arg-type]


def build_lane(root: Path, shards: Iterable[Iterable[Prepared]], codec: Codec = "tar") -> list[ShardEntry]:
    """Publish and commit shards of the lane s-0; the caller holds the lock."""
    entries = []
    for ordinal, samples in enumerate(shards):
        staged = stage(root, samples, codec=codec, ordinal=ordinal)
        publish_shard(root, staged)
        write_commit(root, Commit(lane="s-0", number=ordinal, shard=staged.entry, totals=LaneTotals()))
        entries.append(staged.entry)
    return entries


def build_tiny(root: Path, codec: Codec = "tar", samples: int = 3) -> str:
    """A whole dataset: two shards, an omitted sample, a dead letter; its version."""
    with lock(root):
        entries = build_lane(
            root,
            [[media_sample(1), *(text_sample(n) for n in range(samples - 1))], [text_sample(99), media_sample(2)]],
            codec,
        )
        letters = publish_dead_letters(root, [DeadLetter(source="s", position="x:3", reason="not-json")])
        column = publish_omitted(root, {1: [0]})
        stored = sum(entry.samples for entry in entries)
        totals = Totals(samples=stored - 1, shards=2, bytes=sum(entry.shard.bytes for entry in entries), omitted=1)
        return publish_version(root, manifest_of(entries, totals=totals, columns=(column,), dead_letters=(letters,)))
