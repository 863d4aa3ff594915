"""Peers' side of the benchmarks, each as its documentation shows it, on the same bytes.

Here: webdataset, MosaicML streaming, LitData (where installed), and the bare limits.
Elsewhere: our side (ours.py), rounds and ratios (measure.py).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

from tools.bench.ours import BATCH
from tools.bench.workloads import Workload

SHARD_BYTES = 256 << 20
SHARD_SAMPLES = 10_000
CHUNK_BYTES = 64 << 20


def write_webdataset(workload: Workload, folder: Path) -> None:
    """ShardWriter with shards of our size and a fixed mtime, which is its fastest setting."""
    import webdataset

    pattern = str(folder / "shard-%06d.tar")
    with webdataset.ShardWriter(
        pattern, maxsize=SHARD_BYTES, maxcount=SHARD_SAMPLES, verbose=0, mtime=0, encoder=False
    ) as sink:
        for number, (record, image) in enumerate(workload.raw):
            sample = {"__key__": f"{number:08d}", "json": record}
            if image:
                sample["jpg"] = image
            sink.write(sample)


def read_webdataset(folder: Path) -> int:
    """One epoch with shuffled shards and its sample buffer; nothing is decoded."""
    import webdataset

    files = sorted(str(path) for path in folder.glob("*.tar"))
    stream = webdataset.WebDataset(files, shardshuffle=len(files), seed=0, empty_check=False).shuffle(1000)
    return sum(len(value) for sample in stream for name, value in sample.items() if not name.startswith("__"))


def write_mds(workload: Workload, folder: Path) -> None:
    """MDSWriter with bytes columns and its default shards of 64 MiB, without its optional hashes."""
    writer = _streaming().MDSWriter
    with_image = bool(workload.raw[0][1])
    columns = {"json": "bytes", "jpg": "bytes"} if with_image else {"json": "bytes"}
    with writer(out=str(folder), columns=columns) as sink:
        for record, image in workload.raw:
            sink.write({"json": record, "jpg": image} if with_image else {"json": record})


def read_mds(folder: Path) -> int:
    """One shuffled epoch of StreamingDataset on local files; its hashes are off by default."""
    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return sum(len(value) for sample in dataset for value in sample.values())


def write_litdata(workload: Workload, folder: Path) -> None:
    """BinaryWriter, which `optimize` uses in each process, with chunks of 64 MiB."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
    for number, (record, image) in enumerate(workload.raw):
        writer[number] = {"json": record, "jpg": image} if image else {"json": record}
    writer.done()
    writer.merge()


def read_litdata(folder: Path) -> int:
    """One shuffled epoch of StreamingDataset on local files."""
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(folder), shuffle=True)
    return sum(len(value) for sample in dataset for value in sample.values())


def write_bare(workload: Workload, folder: Path) -> None:
    """The same bytes without any container, in pieces of a MiB, forced to the disk: what a disk allows."""
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    pieces: list[bytes] = []
    size = 0
    try:
        for record, image in workload.raw:
            pieces += (record, image)
            size += len(record) + len(image)
            if size >= 1 << 20:
                os.write(fd, b"".join(pieces))
                pieces, size = [], 0
        os.write(fd, b"".join(pieces))
        os.fsync(fd)
    finally:
        os.close(fd)


def available(package: str) -> bool:
    """Whether a peer is installed."""
    return importlib.util.find_spec(package) is not None


def _streaming() -> Any:
    # Its vision part needs torchvision, which nothing here uses.
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    import streaming

    return streaming
