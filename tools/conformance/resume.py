"""Resumes by the thousand: random datasets, orders and chains of topologies, against an order of its own.

Here: drawing a case, reading it through ranks in lockstep, comparing every batch and state with the oracle's.
Elsewhere: the oracle (oracle.py), datasets (datasets.py), mixtures and packs (mixing.py, packing.py).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import Batch, open_loader
from tools.conformance.datasets import Tiny, make_tiny, random_shape
from tools.conformance.oracle import Order, Turn, epoch_places, next_turn

DATASETS = 200
SAMPLES_APART = 100_000
"""Numbers of samples between two datasets, so that no two have a sample in common."""


class Leg(NamedTuple):
    """One run of a job: its topology and how it reads; it is killed after `steps` steps."""

    ranks: int
    batch: int
    workers: int
    budget: int
    steps: int


class Case(NamedTuple):
    """One dataset under one order, read by a chain of jobs, each resumed from the state of the one before."""

    number: int
    dataset: int
    seed: int
    epoch: int
    lanes: int | None
    window: int | None
    tail: str
    legs: tuple[Leg, ...]


class Result(NamedTuple):
    """What a case came to: steps and resumes compared, and what was wrong."""

    steps: int
    resumes: int
    epochs: int
    problems: tuple[str, ...]


def make_datasets(folder: Path, count: int, seed: int) -> list[Tiny]:
    """A pool of datasets of random shapes."""
    rng = random.Random(f"datasets {seed}")
    return [make_tiny(folder / str(number), random_shape(rng), first=number * SAMPLES_APART) for number in range(count)]


def draw_case(number: int, seed: int, datasets: int) -> Case:
    """The number-th case of a seed: a pure function of both."""
    rng = random.Random(f"case {seed} {number}")
    return Case(
        number=number,
        dataset=rng.randrange(datasets),
        seed=rng.choice((0, 1, rng.getrandbits(64))),
        epoch=rng.choice((0, 0, rng.randrange(1000))),
        lanes=rng.choice((None, 1, 2, 3, 5, 8, 64, 1024)),
        window=rng.choice((None, 1, 2, 7, 16, 64)),
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
        steps=rng.choice((0, 1, 2, 3, 5, 8, 13, 40)),
    )


def try_case(case: Case, datasets: list[Tiny]) -> Result:
    """Read the whole chain; every batch, mark and state compared with the oracle's."""
    tiny = datasets[case.dataset]
    oracle = Oracle(case, tiny)
    state: dict[str, Any] | None = None
    steps = resumes = 0
    for leg in case.legs:
        if not oracle.fits(leg):
            continue
        resumes += state is not None
        try:
            for found, wanted in zip(read_leg(tiny, case, leg, state), oracle.turns(leg), strict=True):
                steps += 1
                compare(found, wanted, tiny)
                state = json.loads(json.dumps(found.state))
        except Exception as error:  # whatever it is, the case is wrong, and the next one is tried
            problem = f"case {case.number}: {type(error).__name__}: {error}; {leg}; {case}"
            return Result(steps, resumes, oracle.epochs, (problem,))
    return Result(steps, resumes, oracle.epochs, ())


def try_cases(count: int, seed: int, folder: Path) -> Iterator[Result]:
    """`count` cases of a seed over a pool of datasets made in `folder`."""
    datasets = make_datasets(folder, min(DATASETS, count), seed)
    for number in range(count):
        yield try_case(draw_case(number, seed, len(datasets)), datasets)


class Step(NamedTuple):
    """What all ranks got in one step, and the state of them all; without ranks: an epoch that had none left."""

    ranks: tuple[Batch, ...]
    state: dict[str, Any]


def read_leg(tiny: Tiny, case: Case, leg: Leg, state: dict[str, Any] | None) -> Iterator[Step]:
    """The steps of one job, its ranks in lockstep, over the ends of epochs."""
    fields: dict[str, Any] = {"seed": case.seed, "lanes": case.lanes, "window": case.window, "tail": case.tail}
    loaders = [
        open_loader(
            tiny.dataset, rank=rank, world_size=leg.ranks, batch_size=leg.batch, num_workers=leg.workers,
            read_ahead_bytes=leg.budget, **fields,
        )
        for rank in range(leg.ranks)
    ]  # fmt: skip
    for loader in loaders:
        loader.load_state_dict(state or loader.state_dict() | {"epoch": case.epoch})
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


class Mismatch(Exception):
    """What was read is not what the oracle says."""


class Oracle:
    """The turns of a case by the plain order, epoch by epoch."""

    def __init__(self, case: Case, tiny: Tiny) -> None:
        self._tail = case.tail
        window = case.window or open_loader(tiny.dataset, lanes=case.lanes, tail="pad").state_dict()["window"]
        self._order = Order(tiny.shape.live, tiny.shape.block, case.seed, case.lanes or 1024, window)
        self._epoch, self._position = case.epoch, 0
        self._places = epoch_places(self._order, case.epoch)
        self.epochs = 1

    def fits(self, leg: Leg) -> bool:
        """Whether a whole epoch has a step under this topology."""
        return bool(next_turn(self._places, 0, 0, (leg.ranks, leg.batch), self._tail).ranks)

    def turns(self, leg: Leg) -> Iterator[Turn]:
        """The next turns, as many as the leg takes."""
        for _ in range(leg.steps):
            turn = next_turn(self._places, self._epoch, self._position, (leg.ranks, leg.batch), self._tail)
            if turn.epoch != self._epoch:
                self._places = epoch_places(self._order, turn.epoch)
                self.epochs += 1
            self._epoch, self._position = turn.epoch, turn.position
            yield turn


def compare(found: Step, wanted: Turn, tiny: Tiny) -> None:
    """Raise Mismatch where a step is not the oracle's turn."""
    at = (found.state["epoch"], found.state["position"])
    if at != (wanted.epoch, wanted.position):
        raise Mismatch(f"state at {at}, wanted {(wanted.epoch, wanted.position)}")
    got = tuple(tuple(((item.shard, item.ordinal), item.padded) for item in part) for part in found.ranks)
    if got != wanted.ranks:
        raise Mismatch(f"got {got}, wanted {wanted.ranks}")
    if any(item.key != tiny.keys[item.shard, item.ordinal] for part in found.ranks for item in part):
        raise Mismatch("a sample of another key")
    if any(part.padded != sum(item.padded for item in part) for part in found.ranks):
        raise Mismatch("batches miscount their padding")
