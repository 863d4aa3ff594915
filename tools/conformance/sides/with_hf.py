"""Hugging Face datasets' side: parquet through its own writer, streamed; tars through its webdataset reader.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[str, bytes]
ABOUT = (
    "a parquet file a shard by Dataset.to_parquet, read by load_dataset('parquet', streaming=True); tars by "
    "load_dataset('webdataset', streaming=True); state_dict of the iterable dataset, shuffled with its buffer; "
    "split_dataset_by_node for ranks; a cache: load_dataset without streaming"
)
OFFERS = {"tars", "cache", "http", "ranks", "resume", "mixing", "empty shard"}
DATA = "*.parquet"


def version() -> str:
    """The version of datasets."""
    import datasets

    datasets.disable_progress_bars()
    return str(datasets.__version__)


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """A parquet file a shard."""
    import datasets

    features = datasets.Features({"txt": datasets.Value("binary"), "jpg": datasets.Value("binary")})
    for ordinal, samples in enumerate(shards):
        columns = {name: [fields[name] for _, fields in samples] for name in features}
        dataset = datasets.Dataset.from_dict(columns, features=features)
        dataset.to_parquet(str(folder / f"shard-{ordinal:06d}.parquet"))
    (folder / "shards.txt").write_text("\n".join(sorted(path.name for path in folder.glob("*.parquet"))))


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order."""
    for sample in _load(place, cache):
        yield _fields(sample)


def read_tar(place: str) -> Iterator[tuple[str, Fields]]:
    """All samples of a tar that others made."""
    import datasets

    stream = datasets.load_dataset("webdataset", data_files={"train": [place]}, split="train", streaming=True)
    stream = stream.cast(_raw(stream.features))
    for sample in stream:
        yield sample["__key__"], _fields(sample)


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch of one rank, or what is left of it."""
    from datasets.distributed import split_dataset_by_node

    if how["mixed"]:
        import datasets

        members = [_load(f"{place}/{number}/data", "") for number in range(2)]
        stream = datasets.interleave_datasets(members, probabilities=[2 / 3, 1 / 3], seed=how["seed"])
    else:
        stream = _load(place, "")
    if how["ranks"] > 1:
        stream = split_dataset_by_node(stream, rank=how["rank"], world_size=how["ranks"])
    if how["shuffle"]:
        stream = stream.shuffle(seed=how["seed"], buffer_size=8)
    if state is not None:
        stream.load_state_dict(state)
    batch: list[Fields] = []
    for sample in stream:
        batch.append(_fields(sample))
        if len(batch) == how["batch"]:
            yield batch, stream.state_dict()
            batch = []
    if batch:
        yield batch, stream.state_dict()


def _load(place: str, cache: str) -> Any:
    import datasets

    files = _urls(place)
    if cache:
        return datasets.load_dataset("parquet", data_files={"train": files}, split="train", cache_dir=cache)
    return datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)


def _urls(place: str) -> list[str]:
    if "://" not in place:
        return sorted(str(path) for path in Path(place).glob("*.parquet"))
    import urllib.request

    with urllib.request.urlopen(f"{place}/shards.txt") as listing:
        return [f"{place}/{name}" for name in listing.read().decode("ascii").split()]


def _raw(features: Any) -> Any:
    import datasets

    plain = {}
    for name, kind in features.items():
        media = isinstance(kind, datasets.Image | datasets.Audio)
        plain[name] = type(kind)(decode=False) if media else kind
    return datasets.Features(plain)


def _fields(sample: dict[str, Any]) -> Fields:
    found = {}
    for name, value in sample.items():
        if name.startswith("__") or value is None:
            continue
        data = value["bytes"] if isinstance(value, dict) else value
        found[name] = data.encode() if isinstance(data, str) else bytes(data)
    return found
