"""shardkit's side: its writer, an open dataset, foreign tars, the loader.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardkit import Item, __version__, open_dataset, open_loader
from shardkit.records.row import Member, Prepared
from shardkit.records.sample import Image, Message, Modalities, Sample
from shardkit.store.publish import lock, publish_shard, publish_version
from shardkit.store.shard import ShardWriter
from tools.conformance.datasets import Shape, manifest_of
from tools.conformance.material import IMAGE, TEXT

Fields = dict[str, bytes]
ABOUT = "defaults; lanes=4, window=8 for shuffling; tail=split"
OFFERS = {"own tars", "tars", "cache", "http", "ranks", "resume", "reshape", "mixing", "empty shard"}
DATA = "shards/*/*"
TARS = "shards/tars"
BLOCK = 2
MIXED = (2.0, 1.0)
"""Weights of the datasets of a mixture, which every side mixes so."""


def version() -> str:
    """The version of shardkit."""
    return __version__


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """A dataset with these shards; plain tars where one is empty, which our writer never makes but others do."""
    if not all(shards):
        _write_tars(folder, shards)
        return
    with lock(folder):
        entries = []
        for ordinal, samples in enumerate(shards):
            writer = ShardWriter(folder, source="s", lane="s-0", ordinal=ordinal, codec="tar", block_samples=BLOCK)
            for number, fields in samples:
                writer.add(_prepared(number, fields))
            staged = writer.seal()
            publish_shard(folder, staged)
            entries.append(staged.entry)
        shape = Shape(tuple(map(len, shards)), BLOCK, {}, "tar")
        publish_version(folder, manifest_of(entries, shape, ()))


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order."""
    for item in open_dataset(place, cache=cache or None):
        yield _fields(item)


def read_tar(place: str) -> Iterator[tuple[str, Fields]]:
    """All samples of a tar that others made."""
    for item in open_dataset(place):
        yield item.key, {name: bytes(data) for name, data in item.members.items()}


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch, or what is left of it."""
    fields = {"lanes": 4, "window": 8 if how["shuffle"] else 1, "tail": "split", "seed": how["seed"]}
    mixed = {f"{place}/{number}/data": weight for number, weight in enumerate(MIXED)} if how["mixed"] else None
    tars = sorted(map(str, Path(place, TARS).glob("*.tar")))
    source = open_dataset(tars or place) if mixed is None else open_dataset(mixed)
    loader = open_loader(
        source, batch_size=how["batch"], num_workers=how["workers"], rank=how["rank"],
        world_size=how["ranks"], **fields,
    )  # fmt: skip
    if state is not None:
        loader.load_state_dict(state)
    for batch in loader:
        yield [_fields(item) for item in batch], batch.state


def _write_tars(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    (folder / TARS).mkdir(parents=True)
    for ordinal, samples in enumerate(shards):
        with tarfile.open(folder / TARS / f"shard-{ordinal:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, fields in samples:
                for name, data in fields.items():
                    member = tarfile.TarInfo(f"{number:08d}.{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _prepared(number: int, fields: Fields) -> Prepared:
    image = Image(member="image0.jpg", type="photo", width=1, height=1)
    sample = Sample(
        id=str(number),
        messages=(Message(role="assistant", content=fields[TEXT].decode("ascii")),),
        domain="d",
        category="c",
        source="s",
        modalities=Modalities(image=(image,)),
    )
    return Prepared(sample=sample, members=(Member(name="image0.jpg", data=fields[IMAGE]),))


def _fields(item: Item) -> Fields:
    if item.is_foreign:
        return {name: bytes(item.members[name]) for name in (TEXT, IMAGE)}
    return {TEXT: item.sample.messages[0].content.encode("ascii"), IMAGE: bytes(item.members["image0.jpg"])}
