"""Resumes of packed reading: packs of all ranks against the oracle's, lanes dealt anew between jobs.

Here: drawing a case, reading it through ranks in lockstep, comparing every pack.
Elsewhere: what is read (reading.py), packs by the oracle (oracle_pack.py), batches without packing (resume.py).
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any, NamedTuple

from shardkit import Item, open_loader
from shardkit.read.pack import Buckets, Cost, Pack
from tools.conformance.oracle_pack import Dealer, Rules
from tools.conformance.reading import TOKENS, Epochs, Pool, Reading, can_be_read, draw_reading, first_state


class Leg(NamedTuple):
    """One run of a job, killed after `steps` steps; `carried` bounds the decoded samples that wait."""

    ranks: int
    batch: int
    workers: int
    carried: int
    steps: int


class Case(NamedTuple):
    """What is read and how it is packed, by a chain of jobs."""

    number: int
    reading: Reading
    rules: Rules
    legs: tuple[Leg, ...]


class WrongPack(Exception):
    """A pack is not what the oracle says."""


def draw_case(number: int, seed: int, datasets: int) -> Case:
    """The number-th case of a seed."""
    rng = random.Random(f"packing {seed} {number}")
    legs = tuple(
        Leg(
            ranks=rng.choice((1, 1, 2, 3, 4)),
            batch=rng.choice((1, 2, 3)),
            workers=rng.choice((0, 0, 1, 2)),
            carried=rng.choice((0, 2000, 1 << 20)),
            steps=rng.choice((1, 2, 3, 5, 8)),
        )
        for _ in range(rng.randint(2, 4))
    )
    return Case(number, draw_reading(rng, datasets), draw_rules(rng), legs)


def draw_rules(rng: random.Random) -> Rules:
    """Packs with any budgets, or buckets by samples or tokens."""
    kind = rng.choice(("pack", "pack", "buckets"))
    samples = rng.choice((None, 2, 3)) if kind == "buckets" else None
    return Rules(
        kind=kind,
        tokens=None if samples else rng.choice((24, 40, 64)),
        images=rng.choice((None, 1, 2)) if kind == "pack" else None,
        audio_ms=rng.choice((None, 300)) if kind == "pack" else None,
        samples=samples,
        candidates=rng.choice((3, 4, 8)),
        oversized=rng.choice(("skip", "alone")),
        lanes=rng.choice((1, 2, 3, 4, 6, 8)),
    )


def try_case(case: Case, pool: Pool) -> tuple[str, int, int, tuple[str, ...]]:
    """(kind, steps, resumes, problems) of a chain."""
    done = [0, 0]
    try:
        _run(case, pool, done)
    except Exception as error:  # whatever it is, the case is wrong, and the next one is tried
        return "packed", done[0], done[1], (f"case {case.number}: {type(error).__name__}: {error}; {case}",)
    return "packed", done[0], done[1], ()


def _run(case: Case, pool: Pool, done: list[int]) -> None:
    if not can_be_read(case.reading, pool):
        return
    source = case.reading.open(pool)
    state = first_state(case.reading, pool, batch_size=1, world_size=1)
    epochs = Epochs(case.reading, pool, state, 1)
    if not any(_fits(case.rules, pool, key) for key in epochs(0)):
        return
    dealer = Dealer(case.rules, epochs.line, pool.cost)
    states: list[dict[str, Any]] = []
    for leg in case.legs:
        if leg.ranks > case.rules.lanes:
            continue
        loaders = [
            open_loader(
                source, rank=rank, world_size=leg.ranks, batch_size=leg.batch, num_workers=leg.workers,
                pack=_packing(case.rules, leg.carried), cost=cost_of,
                **(case.reading.fields if rank == 0 or not states else {}),
            )
            for rank in range(leg.ranks)
        ]  # fmt: skip
        if states:
            done[1] += 1
            for loader in loaders:
                loader.load_state_dict(states)
        dealer.deal(leg.ranks)
        for parts in itertools.islice(zip(*loaders, strict=True), leg.steps):
            done[0] += 1
            for rank, part in enumerate(parts):
                wanted = dealer.next_packs(rank, leg.batch)
                found = [(pack.lane, [item.key for item in pack]) for pack in part]
                if found != wanted:
                    raise WrongPack(f"rank {rank} got {found}, wanted {wanted}; {leg}")
                _check_costs(part, pool)
            states = json.loads(json.dumps([part.state for part in parts]))


def cost_of(item: Item) -> Cost:
    """What a sample takes of a pack, by its record."""
    characters = sum(len(message.content) for message in item.sample.messages)
    images = len(item.sample.modalities.image)
    return Cost(tokens=1 + characters // TOKENS, images=images, audio_seconds=0.04 * (characters % 7))


def _check_costs(part: Any, pool: Pool) -> None:
    for pack in part:
        costs = [pool.cost(item.key) for item in pack]
        sums = tuple(sum(column) for column in zip(*costs, strict=True))
        if pack.lengths != tuple(cost.tokens for cost in costs):
            raise WrongPack(f"lengths {pack.lengths}, wanted those of {costs}")
        if (pack.cost.tokens, pack.cost.images, pack.cost.audio_ms) != sums:
            raise WrongPack(f"cost {pack.cost}, wanted {sums}")


def _packing(rules: Rules, carried: int) -> Pack | Buckets:
    shared: dict[str, Any] = {
        "candidates": rules.candidates, "oversized": rules.oversized, "lanes": rules.lanes, "carried_bytes": carried,
    }  # fmt: skip
    if rules.kind == "buckets":
        return Buckets(tokens=rules.tokens, samples=rules.samples, **shared)
    assert rules.tokens is not None
    seconds = None if rules.audio_ms is None else rules.audio_ms / 1000
    return Pack(tokens=rules.tokens, images=rules.images, audio_seconds=seconds, **shared)


def _fits(rules: Rules, pool: Pool, key: str) -> bool:
    cost = pool.cost(key)
    budgets = (rules.tokens, rules.images, rules.audio_ms)
    return (rules.kind == "buckets" and rules.samples is not None) or all(
        most is None or has <= most for has, most in zip(cost, budgets, strict=True)
    )
