"""From a process's start to the first batch of a resume at half an epoch: `python -m tools.bench.resume SIDE FOLDER`.

Here: saving a state at half an epoch, and going on from it, with the digest of what comes.
Elsewhere: the clock, which starts before this process does (measure.py).

Nothing but the standard library is imported before the side's own code: imports are part of what is measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

BATCH = 64
STATE = "half-epoch.json"
Opened = tuple[Iterable[list[bytes]], Callable[[], Any]]


def with_torch(folder: Path, state: Any) -> Opened:
    """Our loader, in a process that imports torch as training does."""
    import torch  # noqa: F401

    return without_torch(folder, state)


def without_torch(folder: Path, state: Any) -> Opened:
    """Our loader, which does not need torch."""
    from shardkit import open_dataset, open_loader

    loader = open_loader(open_dataset(folder), batch_size=BATCH)
    if state is not None:
        loader.load_state_dict(state)
    batches = ([bytes(item.members["json"]) for item in batch] for batch in loader)
    return batches, loader.state_dict


def with_litdata(folder: Path, state: Any) -> Opened:
    """StreamingDataset under StreamingDataLoader, in this process."""
    from litdata import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(str(folder), shuffle=True)
    loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0)
    if state is not None:
        loader.load_state_dict(state)
    return (batch["json"] for batch in loader), loader.state_dict


def with_mds(folder: Path, state: Any) -> Opened:
    """StreamingDataset under StreamingDataLoader, in this process."""
    from tools.bench.peers import _streaming

    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = streaming.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0)
    if state is not None:
        loader.load_state_dict(state)
    return (batch["json"] for batch in loader), loader.state_dict


SIDES: dict[str, Callable[[Path, Any], Opened]] = {
    one.__name__: one for one in (with_torch, without_torch, with_litdata, with_mds)
}


def save(side: str, folder: Path, samples: int) -> str:
    """Read half an epoch and keep the state; the digest of the batch that comes next."""
    batches, state_of = SIDES[side](folder, None)
    batches = iter(batches)
    for _ in range(samples // BATCH // 2):
        next(batches)
    (folder / STATE).write_text(json.dumps(state_of()))
    return digest(next(batches))


def resume(side: str, folder: Path) -> str:
    """Go on from the state; the digest of the first batch."""
    batches, _ = SIDES[side](folder, json.loads((folder / STATE).read_text()))
    return digest(next(iter(batches)))


def digest(batch: list[bytes]) -> str:
    """Of a batch's records, in order."""
    return hashlib.sha256(b"".join(batch)).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(save(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])), flush=True)
    else:
        print(resume(sys.argv[1], Path(sys.argv[2])), flush=True)
