"""MosaicML Streaming's side: MDSWriter with hashes, StreamingDataset that checks them, StreamingDataLoader.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[str, bytes]
ABOUT = (
    "MDSWriter(hashes=['sha1', 'xxh64']), one folder a shard, merge_index; StreamingDataset(remote=…, local=…, "
    "validate_hash='sha1'), which is its best checking: at download; py1e shuffling, StreamingDataLoader.state_dict; "
    "one process a rank"
)
OFFERS = {"cache", "ranks", "resume", "reshape", "mixing"}
DATA = "*/*.mds"
HASH = "sha1"


def version() -> str:
    """The version of MosaicML Streaming."""
    return str(_streaming().__version__)


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """A folder a shard, and one index over them."""
    streaming = _streaming()
    for ordinal, samples in enumerate(shards):
        with streaming.MDSWriter(
            out=str(folder / f"{ordinal:03d}"), columns={"txt": "bytes", "jpg": "bytes"}, hashes=[HASH, "xxh64"]
        ) as sink:
            for _, fields in samples:
                sink.write(fields)
    streaming.base.util.merge_index(str(folder))


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order, through the cache folder or a fresh one."""
    with _Local(cache) as local:
        dataset = _dataset(place, local, batch_size=1, shuffle=False)
        for at in range(dataset.num_samples):
            yield _fields(dataset[at])


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch of one rank, or what is left of it."""
    _join_ranks(how["ranks"])
    with _Local("", f"{place}-local-{how['run']}") as local:
        fields = {"shuffle": how["shuffle"], "shuffle_seed": how["seed"], "num_canonical_nodes": 2}
        if how["mixed"]:
            dataset = _mixture(place, local, batch_size=how["batch"], **fields)
        else:
            dataset = _dataset(place, local, batch_size=how["batch"], **fields)
        loader = _streaming().StreamingDataLoader(
            dataset, batch_size=how["batch"], num_workers=how["workers"], drop_last=False, collate_fn=list
        )
        if state is not None:
            loader.load_state_dict(state)
        for batch in loader:
            yield [_fields(sample) for sample in batch], loader.state_dict()


def _dataset(place: str, local: str, **fields: Any) -> Any:
    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    return streaming.StreamingDataset(remote=place, local=local, validate_hash=HASH, **fields)


def _mixture(place: str, local: str, **fields: Any) -> Any:
    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    streams = [
        streaming.Stream(
            remote=f"{place}/{number}/data", local=f"{local}/{number}", proportion=weight / 3, validate_hash=HASH
        )
        for number, weight in enumerate((2, 1))
    ]
    return streaming.StreamingDataset(streams=streams, **fields)


def _join_ranks(ranks: int) -> None:
    import torch.distributed as dist

    if ranks > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=ranks)


class _Local:
    """A folder for local copies: the one given, one shared by the ranks of a run, or a fresh one."""

    def __init__(self, given: str, shared: str = "") -> None:
        self._given = given or shared
        self._fresh = ""

    def __enter__(self) -> str:
        if self._given:
            return self._given
        self._fresh = tempfile.mkdtemp(prefix="mosaic-")
        return self._fresh

    def __exit__(self, *error: object) -> None:
        if self._fresh:
            shutil.rmtree(self._fresh, ignore_errors=True)


def _streaming() -> Any:
    # Its vision part needs torchvision, which nothing here uses.
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    import streaming

    return streaming


def _fields(sample: dict[str, Any]) -> Fields:
    return {"txt": bytes(sample["txt"]), "jpg": bytes(sample["jpg"])}
