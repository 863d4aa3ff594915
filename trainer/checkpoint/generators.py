"""The random generators of a process, as tensors.

Here: python, numpy, torch on CPU and on the device, out and in.
Elsewhere: seeding them (run.py), the file (files.py).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trainer.distributed.world import World


def save_generators(world: World) -> dict[str, torch.Tensor]:
    """The generators of all ranks by `RANK.NAME`, on every rank."""
    return {f"{rank}.{name}": value for rank, own in enumerate(world.gather(_own())) for name, value in own.items()}


def restore_generators(stored: Mapping[str, torch.Tensor], rank: int) -> bool:
    """Put back a rank's generators; whether they were there."""
    own = {name.partition(".")[2]: value for name, value in stored.items() if name.startswith(f"{rank}.")}
    if not own:
        return False
    python, numpy_state = json.loads(bytes(own["python"].tolist())), json.loads(bytes(own["numpy"].tolist()))
    random.setstate((python[0], tuple(python[1]), python[2]))
    kind, keys, *rest = numpy_state
    legacy: Any = (kind, np.array(keys, dtype=np.uint32), *rest)
    np.random.set_state(legacy)
    torch.set_rng_state(own["torch"].clone())
    if "cuda" in own and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["cuda"].clone())
    return True


def seed_generators(seed: int) -> None:
    """Seed all of this process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _own() -> dict[str, torch.Tensor]:
    version, keys, gauss = random.getstate()
    kind, numbers, *rest = np.random.get_state()
    own = {
        "python": _json([version, list(keys), gauss]),
        "numpy": _json([kind, np.asarray(numbers).tolist(), *rest]),
        "torch": torch.get_rng_state(),
    }
    return own | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _json(value: Any) -> torch.Tensor:
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
