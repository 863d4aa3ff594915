"""energon's side: tars prepared as its command does, training and validation datasets, savable loaders.

Here: what the other sides have, too; the interface is described in __init__.py.
Elsewhere: the cases.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

Fields = dict[str, bytes]
ABOUT = (
    "plain tars, prepared by BaseWebdatasetFactory.prepare_dataset (what `energon prepare` runs), CrudeWebdataset "
    "without decoding; one pass: get_val_dataset; resumes: get_train_dataset under get_savable_loader, endless as by "
    "default, save_state_rank after every batch; errors raised (by default up to 100 are logged and passed over); "
    "WorkerConfig for ranks; it has no checksums"
)
OFFERS = {"own tars", "tars", "ranks", "resume", "mixing, not tried"}
DATA = "*.tar"
PART = "train"
DATASET_YAML = """\
__module__: megatron.energon
__class__: CrudeWebdataset
"""


def version() -> str:
    """The version of energon."""
    import megatron.energon

    assert megatron.energon
    return installed("megatron-energon")


def write(folder: Path, shards: list[list[tuple[int, Fields]]]) -> None:
    """One tar a shard, prepared as one split."""
    for ordinal, samples in enumerate(shards):
        with tarfile.open(folder / f"shard-{ordinal:06d}.tar", "w") as tar:
            for number, fields in samples:
                for name, data in fields.items():
                    info = tarfile.TarInfo(f"{number:08d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    _prepare(folder)


def read(place: str, cache: str) -> Iterator[Fields]:
    """All samples in stored order."""
    for _, fields in _samples(place):
        yield fields


def read_tar(place: str) -> Iterator[tuple[str, Fields]]:
    """All samples of a tar that others made: prepared first."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(place, Path(folder) / "shard-000000.tar")
        _prepare(Path(folder))
        yield from _samples(folder)


def batches(place: str, how: dict[str, Any], state: Any) -> Iterator[tuple[list[Fields], Any]]:
    """One epoch of one rank, or what is left of it."""
    from megatron.energon import get_savable_loader, get_train_dataset

    config = _config(rank=how["rank"], world_size=how["ranks"], num_workers=how["workers"], seed_offset=how["seed"])
    dataset = get_train_dataset(
        place, worker_config=config, batch_size=None, shuffle_buffer_size=8 if how["shuffle"] else None,
        max_samples_per_sequence=None, shuffle_over_epochs_multiplier=1 if how["shuffle"] else None,
        parallel_shard_iters=None if how["shuffle"] else 1, repeat=how["resuming"], auto_decode=False,
        task_encoder=_encoder(),
    )  # fmt: skip
    loader = get_savable_loader(dataset)
    if state is not None:
        loader.restore_state_rank(state)
    batch: list[Fields] = []
    for sample in loader:
        batch.append(_fields(sample))
        if len(batch) == how["batch"]:
            yield batch, loader.save_state_rank()
            batch = []
    if batch:
        yield batch, loader.save_state_rank()


def _samples(place: str) -> Iterator[tuple[str, Fields]]:
    from megatron.energon import get_loader, get_val_dataset

    config = _config(rank=0, world_size=1, num_workers=0)
    dataset = get_val_dataset(
        place, split_part=PART, worker_config=config, batch_size=None, auto_decode=False, task_encoder=_encoder()
    )
    for sample in get_loader(dataset):
        yield str(sample["__key__"]).rpartition("/")[2], _fields(sample)


def _encoder() -> Any:
    """Samples as they are."""
    from megatron.energon import Cooker, DefaultTaskEncoder, stateless

    @stateless  # type: ignore[untyped-decorator]
    def cook(sample: dict[str, Any]) -> dict[str, Any]:
        return sample

    class Plain(DefaultTaskEncoder):  # type: ignore[misc]
        decoder = None
        cookers = [Cooker(cook)]  # noqa: RUF012 - energon's own form

    return Plain()


def _config(**ranks: int) -> Any:
    """Errors are raised: by default up to a hundred in a row are logged and their samples left out."""
    from megatron.energon import WorkerConfig
    from megatron.energon.errors import reraise_exception

    return WorkerConfig(global_error_handler=reraise_exception, restore_error_handler=reraise_exception, **ranks)


def _prepare(folder: Path) -> None:
    from megatron.energon.flavors import BaseWebdatasetFactory

    names = sorted(path.name for path in folder.glob("*.tar"))
    BaseWebdatasetFactory.prepare_dataset(
        folder, names, split_parts_patterns=[(PART, ".*")], shuffle_seed=None, workers=1
    )
    (folder / ".nv-meta" / "dataset.yaml").write_text(DATASET_YAML)


def _fields(sample: Any) -> Fields:
    return {name: bytes(value) for name, value in sample.items() if not name.startswith("__")}
