"""Steps of an epoch: which positions each rank gets, and where reading stands afterwards.

Here: pure arithmetic over (position, samples, batch, ranks, tail).
Elsewhere: which sample a position is (order.py), reading it (fetch.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shardkit.errors import SpecError
from shardkit.read.spec import LoaderSpec, Tail


class Step(NamedTuple):
    """One step of one rank: its positions [start, stop), those from `samples` on being padding; position afterwards.

    `ends_epoch`: nothing of this epoch comes after it.
    """

    start: int
    stop: int
    after: int
    ends_epoch: bool


def plan_steps(position: int, samples: int, spec: LoaderSpec, tail: Tail) -> Iterator[Step]:
    """The steps of this rank from a position to the end of the epoch. All ranks get the same number of steps.

    Positions of a padded step run on beyond `samples`: position samples + i stands for position i, again and again.
    """
    size, rank = spec.batch_size, spec.rank
    while samples - position >= spec.global_batch:
        start, position = position + rank * size, position + spec.global_batch
        yield Step(start, start + size, position, not _more(samples - position, spec, tail))
    left = samples - position
    if not left or not _more(left, spec, tail):
        return
    if tail == "pad":
        yield Step(position + rank * size, position + (rank + 1) * size, samples, True)
    else:
        ranks = spec.world_size
        yield Step(position + rank * left // ranks, position + (rank + 1) * left // ranks, samples, True)


def count_steps(position: int, samples: int, spec: LoaderSpec, tail: Tail) -> int:
    """How many steps `plan_steps` gives."""
    full, left = divmod(samples - position, spec.global_batch)
    return full + (left > 0 and _more(left, spec, tail))


def check_steps(samples: int, spec: LoaderSpec, tail: Tail) -> None:
    """Refuse what could never hand out a batch. Raises SpecError."""
    if samples == 0:
        raise SpecError("the dataset has no samples to read; build it from a source that gives some")
    if not count_steps(0, samples, spec, tail):
        raise SpecError(
            f"the dataset has {samples} samples and a step takes {spec.global_batch} (batch_size {spec.batch_size} x "
            f"world_size {spec.world_size}), so that tail={tail!r} drops them all; use a smaller batch or tail='pad'"
        )


def _more(left: int, spec: LoaderSpec, tail: Tail) -> bool:
    """Whether the last `left` samples of an epoch make at least one more step."""
    if left >= spec.global_batch:
        return True
    least = {"drop": spec.global_batch, "pad": 1, "split": spec.world_size}[tail]
    return left >= least
