"""Resumes by the thousand: random datasets, mixtures, filters and chains of topologies, against an order of its own.

Here: drawing a case, reading it through ranks in lockstep, comparing every batch and state with the oracle's.
Elsewhere: what is read (reading.py), the oracles (oracle.py, oracle_mix.py), packs (packing.py).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import Batch, open_loader
from tools.conformance import packing
from tools.conformance.oracle import Turn, next_turn
from tools.conformance.reading import Epochs, Pool, Reading, can_be_read, draw_reading, first_state, make_pool

DATASETS = 200
PACKED = 5
"""Every so-many-th case packs."""


class Leg(NamedTuple):
    """One run of a job: its topology and how it reads; it is killed after `steps` steps."""

    ranks: int
    batch: int
    workers: int
    budget: int
    steps: int


class Case(NamedTuple):
    """What is read, from which epoch on, by a chain of jobs, each resumed from the state of the one before."""

    number: int
    reading: Reading
    epoch: int
    tail: str
    legs: tuple[Leg, ...]


class Result(NamedTuple):
    """What a case came to: its kind, steps and resumes compared, and what was wrong."""

    kind: str
    steps: int
    resumes: int
    problems: tuple[str, ...]


class Mismatch(Exception):
    """What was read is not what the oracle says."""


def draw_case(number: int, seed: int, datasets: int) -> Case:
    """The number-th case of a seed: a pure function of both."""
    rng = random.Random(f"case {seed} {number}")
    reading = draw_reading(rng, datasets)
    far = rng.randrange(1000) if len(reading.datasets) == 1 else rng.randrange(4)
    return Case(
        number=number,
        reading=reading,
        epoch=rng.choice((0, 0, far)),
        tail=rng.choice(("drop", "pad", "split")),
        legs=tuple(draw_leg(rng) for _ in range(rng.randint(2, 5))),
    )


def draw_leg(rng: random.Random) -> Leg:
    """One job: up to 6 ranks, batches up to 8, threads or none, any budget."""
    return Leg(
        ranks=rng.choice((1, 1, 2, 3, 4, 6)),
        batch=rng.choice((1, 2, 3, 4, 8)),
        workers=rng.choice((0, 0, 0, 1, 2)),
        budget=rng.choice((0, 4096, 1 << 20, 1 << 30)),
        steps=rng.choice((0, 1, 1, 2, 3, 5, 8, 20)),
    )


def try_cases(count: int, seed: int, folder: Path) -> Iterator[Result]:
    """`count` cases of a seed over a pool of datasets made in `folder`."""
    pool = make_pool(folder, min(DATASETS, max(4, count)), seed)
    for number in range(count):
        if number % PACKED == PACKED - 1:
            yield Result(*packing.try_case(packing.draw_case(number, seed, len(pool.datasets)), pool))
        else:
            yield try_case(draw_case(number, seed, len(pool.datasets)), pool)


def try_case(case: Case, pool: Pool) -> Result:
    """Read the whole chain; every batch, mark and state compared with the oracle's."""
    kind = "mixture" if len(case.reading.datasets) > 1 else "filtered" if case.reading.where else "dataset"
    chain = Chain(case, pool)
    try:
        chain.run()
    except Exception as error:  # whatever it is, the case is wrong, and the next one is tried
        problem = f"case {case.number}: {type(error).__name__}: {error}; {case}"
        return Result(kind, chain.steps, chain.resumes, (problem,))
    return Result(kind, chain.steps, chain.resumes, ())


class Chain:
    """A case being read."""

    def __init__(self, case: Case, pool: Pool) -> None:
        self.case, self.pool = case, pool
        self.steps = self.resumes = 0
        self._state: dict[str, Any] | None = None

    def run(self) -> None:
        """All legs. Raises Mismatch, or what reading raises."""
        case = self.case
        if not can_be_read(case.reading, self.pool):
            return
        source = case.reading.open(self.pool)
        first = case.legs[0]
        started = first_state(case.reading, self.pool, batch_size=first.batch, world_size=first.ranks)
        epochs = Epochs(case.reading, self.pool, started, first.batch * first.ranks)
        at = (case.epoch, 0)
        for leg in case.legs:
            if not _has_steps(epochs, at[0], leg, case.tail):
                continue
            began = self._state or started | {"epoch": case.epoch, "tail": case.tail}
            self.resumes += self._state is not None
            for found in read_leg(source, case, leg, began):
                self.steps += 1
                wanted = next_turn(epochs(at[0]), *at, (leg.ranks, leg.batch), case.tail)
                compare(found, wanted)
                at = (wanted.epoch, wanted.position)
                self._state = json.loads(json.dumps(found.state))


class Step(NamedTuple):
    """What all ranks got in one step, and the state of them all; without ranks: an epoch that had none left."""

    ranks: tuple[Batch, ...]
    state: dict[str, Any]


def read_leg(source: Any, case: Case, leg: Leg, state: dict[str, Any]) -> Iterator[Step]:
    """The steps of one job, its ranks in lockstep, over the ends of epochs."""
    loaders = [
        open_loader(
            source, rank=rank, world_size=leg.ranks, batch_size=leg.batch, num_workers=leg.workers,
            read_ahead_bytes=leg.budget, tail=case.tail, **_arguments(case.reading, rank),
        )
        for rank in range(leg.ranks)
    ]  # fmt: skip
    for loader in loaders:
        loader.load_state_dict(state)
    left = leg.steps
    while left > 0:
        announced, came = {len(loader) for loader in loaders}, 0
        for parts in zip(*loaders, strict=True):
            states = [part.state for part in parts] + [loader.state_dict() for loader in loaders]
            if any(one != states[0] for one in states):
                raise Mismatch("ranks differ in their states")
            came += 1
            yield Step(parts, states[0])
            if came == left:
                return
        if announced != {came}:
            raise Mismatch(f"{announced} steps announced, {came} came")
        if not came:
            yield Step((), loaders[0].state_dict())
        left -= max(1, came)


def compare(found: Step, wanted: Turn) -> None:
    """Raise Mismatch where a step is not the oracle's turn."""
    at = (found.state["epoch"], found.state["position"])
    if at != (wanted.epoch, wanted.position):
        raise Mismatch(f"state at {at}, wanted {(wanted.epoch, wanted.position)}")
    got = tuple(tuple((item.key, item.padded) for item in part) for part in found.ranks)
    if got != wanted.ranks:
        raise Mismatch(f"got {got}, wanted {wanted.ranks}")
    if any(part.padded != sum(item.padded for item in part) for part in found.ranks):
        raise Mismatch("batches miscount their padding")


def _arguments(reading: Reading, rank: int) -> dict[str, Any]:
    """Every other rank repeats what the state says, the others leave to it what they can."""
    fields = reading.fields
    return fields if rank % 2 == 0 else {name: fields[name] for name in ("mix",) if name in fields}


def _has_steps(epochs: Epochs, epoch: int, leg: Leg, tail: str) -> bool:
    """Whether epochs from this one on have a step under this topology (those of a mixture differ in length)."""
    topology = (leg.ranks, leg.batch)
    return all(next_turn(epochs(at), at, 0, topology, tail).ranks for at in {0, epoch, epoch + 1})
