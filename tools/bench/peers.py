"""Peers' side of the benchmarks, each as its documentation shows it, on the same bytes.

Here: webdataset, MosaicML streaming, LitData, Hugging Face datasets, and the bare limit of a disk.
Elsewhere: our side (ours.py), resuming (resume.py), which environment each lives in (sides.py).

A function `import_NAME` is called before NAME is timed.
"""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.bench.workloads import Workload

SHARD_BYTES = 256 << 20
SHARD_SAMPLES = 10_000
CHUNK_BYTES = 64 << 20
BATCH = 64
WORKERS = 2
ROW_GROUP = 1000


def write_webdataset(workload: Workload, folder: Path) -> None:
    """ShardWriter with shards of our size and a fixed mtime, which is its fastest setting."""
    _write_tars(workload, folder, SHARD_SAMPLES)


def make_webdataset(workload: Workload, folder: Path) -> None:
    """The same in at least four shards, so that each of two workers has its own."""
    _write_tars(workload, folder, min(SHARD_SAMPLES, -(-len(workload.raw) // 4)))


def _write_tars(workload: Workload, folder: Path, samples: int) -> None:
    import webdataset

    pattern = str(folder / "shard-%06d.tar")
    with webdataset.ShardWriter(
        pattern, maxsize=SHARD_BYTES, maxcount=samples, verbose=0, mtime=0, encoder=False
    ) as sink:
        for number, (record, image) in enumerate(workload.raw):
            sample = {"__key__": f"{number:08d}", "json": record}
            if image:
                sample["jpg"] = image
            sink.write(sample)


def import_read_webdataset() -> None:
    """What reading needs."""
    import webdataset  # noqa: F401


def read_webdataset(folder: Path) -> tuple[int, int]:
    """One epoch with shuffled shards and its sample buffer; nothing is decoded."""
    import webdataset

    files = _tars(folder)
    stream = webdataset.WebDataset(files, shardshuffle=len(files), seed=0, empty_check=False).shuffle(1000)
    return _count({name: value for name, value in row.items() if not name.startswith("__")} for row in stream)


def import_decode_webdataset() -> None:
    """What decoding needs."""
    _imported("torch", "webdataset", "PIL.Image", "numpy")


def decode_webdataset(folder: Path) -> tuple[int, int]:
    """WebLoader with two workers, each decoding and batching its own shards."""
    import webdataset

    files = _tars(folder)
    stream = webdataset.WebDataset(
        files, shardshuffle=len(files), seed=0, nodesplitter=webdataset.split_by_node, empty_check=False
    )
    batches = stream.shuffle(1000).decode("rgb8").to_tuple("jpg").batched(BATCH)
    return _pixels(batch[0] for batch in webdataset.WebLoader(batches, batch_size=None, num_workers=WORKERS))


def _tars(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*.tar"))


def write_mds(workload: Workload, folder: Path) -> None:
    """MDSWriter with bytes columns and its default shards of 64 MiB, without its optional hashes."""
    writer = _streaming().MDSWriter
    with_image = bool(workload.raw[0][1])
    columns = {"json": "bytes", "jpg": "bytes"} if with_image else {"json": "bytes"}
    with writer(out=str(folder), columns=columns) as sink:
        for record, image in workload.raw:
            sink.write({"json": record, "jpg": image} if with_image else {"json": record})


def import_read_mds() -> None:
    """What reading needs."""
    _streaming()


def read_mds(folder: Path) -> tuple[int, int]:
    """One shuffled epoch of StreamingDataset on local files; its hashes are off by default."""
    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    return _count(streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH))


def import_decode_mds() -> None:
    """What decoding needs."""
    _streaming()
    _imported("torch", "PIL.Image", "numpy")


def decode_mds(folder: Path) -> tuple[int, int]:
    """StreamingDataset under torch's DataLoader with two workers."""
    from torch.utils.data import DataLoader

    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()

    base: Any = streaming.StreamingDataset

    class Images(base):  # type: ignore[misc]
        def __getitem__(self, at: int) -> Any:
            return rgb(super().__getitem__(at)["jpg"])

    images = Images(local=str(folder), shuffle=True, batch_size=BATCH)
    return _pixels(DataLoader(images, batch_size=BATCH, num_workers=WORKERS))


def write_litdata(workload: Workload, folder: Path) -> None:
    """BinaryWriter, which `optimize` uses in each process, with chunks of 64 MiB."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
    for number, (record, image) in enumerate(workload.raw):
        writer[number] = {"json": record, "jpg": image} if image else {"json": record}
    writer.done()
    writer.merge()


def import_read_litdata() -> None:
    """What reading needs."""
    _imported("litdata")


def read_litdata(folder: Path) -> tuple[int, int]:
    """One shuffled epoch of StreamingDataset on local files."""
    from litdata import StreamingDataset

    return _count(StreamingDataset(str(folder), shuffle=True))


def import_decode_litdata() -> None:
    """What decoding needs."""
    _imported("litdata", "torch", "PIL.Image", "numpy")


def decode_litdata(folder: Path) -> tuple[int, int]:
    """StreamingDataset with a transform under StreamingDataLoader with two workers."""
    from litdata import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(str(folder), shuffle=True, drop_last=False, transform=lambda row: rgb(row["jpg"]))
    return _pixels(StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS))


def write_parquet(workload: Workload, folder: Path) -> None:
    """Parquet by pyarrow, not compressed, in row groups of a thousand."""
    import pyarrow
    import pyarrow.parquet

    names = ["json", "jpg"] if workload.raw[0][1] else ["json"]
    schema = pyarrow.schema([(name, pyarrow.binary()) for name in names])
    with pyarrow.parquet.ParquetWriter(
        folder / "data.parquet", schema, compression="none", use_dictionary=False
    ) as sink:
        for at in range(0, len(workload.raw), ROW_GROUP):
            columns = list(zip(*workload.raw[at : at + ROW_GROUP], strict=True))[: len(names)]
            sink.write_table(pyarrow.table([pyarrow.array(one, pyarrow.binary()) for one in columns], schema))


def make_arrow(workload: Workload, folder: Path) -> None:
    """The Arrow files that `load_dataset` makes of the Parquet."""
    import datasets

    write_parquet(workload, folder)
    datasets.disable_progress_bars()
    cached = datasets.Dataset.from_parquet(str(folder / "data.parquet"), cache_dir=str(folder / "cache"))
    cached.save_to_disk(str(folder / "arrow"))


def import_read_arrow() -> None:
    """What reading needs."""
    _imported("datasets")


def read_arrow(folder: Path) -> tuple[int, int]:
    """One shuffled epoch of a map-style Dataset."""
    import datasets

    return _count(datasets.load_from_disk(str(folder / "arrow")).shuffle(seed=0))


def import_decode_arrow() -> None:
    """What decoding needs."""
    _imported("datasets", "torch", "PIL.Image", "numpy")


def decode_arrow(folder: Path) -> tuple[int, int]:
    """A map-style Dataset with a transform under torch's DataLoader with two workers."""
    import datasets
    from torch.utils.data import DataLoader

    images = datasets.load_from_disk(str(folder / "arrow")).with_transform(
        lambda rows: {"jpg": [rgb(data) for data in rows["jpg"]]}
    )
    loader = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    return _pixels(batch["jpg"] for batch in loader)


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


def rgb(data: bytes) -> Any:
    """An image as uint8 (height, width, 3), as peers' own decoders do it: by Pillow."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _count(rows: Iterable[dict[str, bytes]]) -> tuple[int, int]:
    """Samples and bytes, each field taken as `bytes`: LitData hands out views of a mapped file that nobody has read.

    Where a side gives `bytes` already, this costs nothing; our own views are copied in the same way (ours.read).
    """
    samples = size = 0
    for row in rows:
        samples += 1
        for value in row.values():
            size += len(bytes(value))
    return samples, size


def _pixels(batches: Iterable[Any]) -> tuple[int, int]:
    images = size = 0
    for batch in batches:
        images += len(batch)
        size += batch.nbytes
    return images, size


def _imported(*names: str) -> None:
    for name in names:
        __import__(name)


def _streaming() -> Any:
    # Its vision part needs torchvision, which nothing here uses.
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    import streaming

    return streaming
