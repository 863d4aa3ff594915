"""webdataset's side: ShardWriter, WebDataset with its default handlers, its cache folder.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[str, bytes]
ABOUT = (
    "ShardWriter; WebDataset with the default handlers, which raise; split_by_node for ranks; over http by curl as it "
    "comes; it has no checksums and no reading state"
)
OFFERS = {"own tars", "tars", "cache", "http", "ranks", "empty shard"}
DATA = "*.tar"


def version() -> str:
    """The version of webdataset."""
    import webdataset

    return str(webdataset.__version__)


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """One tar a shard; the names of an http server's listing go into `shards.txt`."""
    import webdataset

    for ordinal, samples in enumerate(shards):
        path = folder / f"shard-{ordinal:06d}.tar"
        if not samples:
            with tarfile.open(path, "w"):
                continue
        with webdataset.TarWriter(str(path), encoder=False) as sink:
            for number, fields in samples:
                sink.write({"__key__": f"{number:08d}", **fields})
    (folder / "shards.txt").write_text("\n".join(sorted(path.name for path in folder.glob("*.tar"))))


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order."""
    for sample in _stream(_urls(place), cache_dir=cache or None):
        yield _fields(sample)


def read_tar(place: str) -> Iterator[tuple[str, Fields]]:
    """All samples of a tar that others made."""
    for sample in _stream([place]):
        yield sample["__key__"], _fields(sample)


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch of one rank, without a state."""
    import webdataset

    stream = _stream(_urls(place), nodesplitter=webdataset.split_by_node if how["ranks"] > 1 else None)
    batch: list[Fields] = []
    for sample in stream.shuffle(8) if how["shuffle"] else stream:
        batch.append(_fields(sample))
        if len(batch) == how["batch"]:
            yield batch, None
            batch = []
    if batch:
        yield batch, None


def _stream(urls: list[str], **fields: Any) -> Any:
    import webdataset

    return webdataset.WebDataset(urls, shardshuffle=False, **{name: v for name, v in fields.items() if v is not None})


def _urls(place: str) -> list[str]:
    if "://" not in place:
        return sorted(str(path) for path in Path(place).glob("*.tar"))
    import urllib.request

    with urllib.request.urlopen(f"{place}/shards.txt") as listing:
        names = io.TextIOWrapper(listing, "ascii").read().split()
    return [f"{place}/{name}" for name in names]


def _fields(sample: dict[str, Any]) -> Fields:
    return {name: bytes(value) for name, value in sample.items() if not name.startswith("__")}
