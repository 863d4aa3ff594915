"""LitData's side: BinaryWriter, StreamingDataset and StreamingDataLoader with their states.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

Fields = dict[str, bytes]
ABOUT = (
    "BinaryWriter with a chunk a shard, merge_datasets; StreamingDataset in a folder, through a cache folder where a "
    "case asks for one; StreamingDataLoader.state_dict, drop_last=False; one process a rank under torch.distributed; "
    "it has no checksums"
)
OFFERS = {"cache", "ranks", "resume", "reshape", "mixing"}
DATA = "*.bin"


def version() -> str:
    """The version of LitData."""
    import litdata

    assert litdata
    return installed("litdata")


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """A dataset of one chunk for each shard, merged as its documentation shows."""
    from litdata import merge_datasets
    from litdata.streaming.writer import BinaryWriter

    parts = [str(folder)]
    if len(shards) > 1:
        parts = [f"{folder}-part-{ordinal:03d}" for ordinal in range(len(shards))]
    for part, samples in zip(parts, shards, strict=True):
        Path(part).mkdir(exist_ok=True)
        writer = BinaryWriter(part, chunk_bytes=64 << 20)
        for at, (_, fields) in enumerate(samples):
            writer[at] = fields
        writer.done()
        writer.merge()
    if len(shards) > 1:
        merge_datasets(parts, str(folder), max_workers=1)


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order."""
    for sample in _dataset(place, cache, shuffle=False):
        yield _fields(sample)


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch of one rank, or what is left of it."""
    from litdata import CombinedStreamingDataset, StreamingDataLoader

    _join_ranks(how["ranks"])
    fields = {"shuffle": how["shuffle"], "seed": how["seed"], "drop_last": False}
    if how["mixed"]:
        members = [_dataset(f"{place}/{number}/data", "", **fields) for number in range(2)]
        dataset = CombinedStreamingDataset(members, seed=how["seed"], weights=[2 / 3, 1 / 3], iterate_over_all=False)
    else:
        dataset = _dataset(place, "", **fields)
    loader = StreamingDataLoader(dataset, batch_size=how["batch"], num_workers=how["workers"], collate_fn=list)
    if state is not None:
        loader.load_state_dict(state)
    for batch in loader:
        yield [_fields(sample) for sample in batch], loader.state_dict()


def _dataset(place: str, cache: str, **fields: Any) -> Any:
    from litdata import StreamingDataset

    if cache:
        # A plain path is read in place; this form is copied to the cache first, as a bucket would be.
        return StreamingDataset(f"local:{place}", cache_dir=cache, **fields)
    return StreamingDataset(place, **fields)


def _join_ranks(ranks: int) -> None:
    import torch.distributed as dist

    if ranks > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=ranks)


def _fields(sample: dict[str, Any]) -> Fields:
    return {name: bytes(value) for name, value in sample.items()}
