"""What is read in a case of resuming: one dataset or a mixture, all of it or through a filter, under some order.

Here: drawing it, opening it, and its epochs by the oracles, as keys of samples.
Elsewhere: chains of jobs over it (resume.py), packs of it (packing.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import Dataset, open_dataset, open_loader
from shardkit.read.mix import Mix
from shardkit.read.mixture import Mixture
from tools.conformance.datasets import Tiny, make_tiny, random_shape
from tools.conformance.oracle import Order, epoch_places
from tools.conformance.oracle_mix import Mixed, counts_of, mixed_epoch
from tools.conformance.oracle_pack import Costs

SAMPLES_APART = 100_000
"""Numbers of samples between two datasets, so that no two have a sample in common."""

WEIGHTS = (
    (2.0, 1.0),
    (5.0, 4.0),
    (0.6, 0.1),
    (9.0, 2.0),
    (0.0, 1.0),
    (3.0, 2.0, 2.0),
    (1.0, 1.0, 1.0),
    (0.0, 4.0, 1.0),
)
RARE_WEIGHTS = ((1.0, 1.0), (0.7, 0.3), (0.333, 0.667), (0.1, 0.2, 0.7), (1.0, 2.0, 3.0))
"""Weights whose words have 65,521 slots, which the oracle builds in a second."""

TOKENS = 12
"""Characters a token, for costs."""


class Known(NamedTuple):
    """What the oracle knows of a sample: its category, images, characters."""

    category: str
    images: int
    characters: int


class Pool(NamedTuple):
    """The datasets of a run and what is known of every sample by its key."""

    datasets: list[Tiny]
    known: dict[str, Known]

    def cost(self, key: str) -> Costs:
        """What a sample takes of a pack."""
        known = self.known[key]
        return Costs(1 + known.characters // TOKENS, known.images, 40 * (known.characters % 7))


class Reading(NamedTuple):
    """One dataset or several, the seed, lanes and window (None: the default), a filter, and how they are mixed."""

    datasets: tuple[int, ...]
    seed: int
    lanes: int | None
    window: int | None
    where: str | None = None
    weights: tuple[float, ...] | None = None
    schedule: tuple[tuple[int, tuple[float, ...]], ...] = ()
    exhausted: str = "repeat"

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of LoaderSpec."""
        fields: dict[str, Any] = {"seed": self.seed, "lanes": self.lanes, "window": self.window, "where": self.where}
        if len(self.datasets) > 1:
            fields["mix"] = Mix(weights=self.weights, schedule=self.schedule, exhausted=self.exhausted)  # type: ignore[arg-type]
        return fields

    def open(self, pool: Pool) -> Dataset | Mixture:
        """What open_dataset gives."""
        members = [pool.datasets[number].dataset for number in self.datasets]
        return members[0] if len(members) == 1 else open_dataset([member.url for member in members])


def make_pool(folder: Path, count: int, seed: int) -> Pool:
    """Datasets of random shapes."""
    rng = random.Random(f"datasets {seed}")
    datasets = [make_tiny(folder / str(at), random_shape(rng), first=at * SAMPLES_APART) for at in range(count)]
    known = {}
    for tiny in datasets:
        for item in tiny.dataset:
            sample = item.sample
            characters = sum(len(message.content) for message in sample.messages)
            known[item.key] = Known(sample.category, len(sample.modalities.image), characters)
    return Pool(datasets, known)


def draw_reading(rng: random.Random, datasets: int) -> Reading:
    """A third are mixtures, a third are read through a filter."""
    members, mixed = (rng.randrange(datasets),), {}  # type: tuple[int, ...], dict[str, Any]
    if rng.random() < 0.35 and datasets > 2:
        weights = rng.choice(RARE_WEIGHTS if rng.random() < 0.04 else WEIGHTS)
        members = tuple(rng.sample(range(datasets), len(weights)))
        mixed["weights"] = weights
        mixed["exhausted"] = rng.choice(("repeat", "stop", "reweight"))
        if rng.random() < 0.3:
            others = [other for other in WEIGHTS if len(other) == len(weights)]
            steps = sorted(rng.sample(range(1, 30), rng.randint(1, 2)))
            mixed["schedule"] = tuple((step, rng.choice(others)) for step in steps)
    return Reading(
        datasets=members,
        seed=rng.choice((0, 1, rng.getrandbits(64))),
        lanes=rng.choice((None, 1, 2, 3, 5, 8, 64, 1024)),
        window=rng.choice((None, 1, 2, 7, 16, 64)),
        where=rng.choice(tuple(FILTERS)) if rng.random() < 0.35 else None,
        **mixed,
    )


FILTERS: dict[str, Callable[[Known], bool]] = {
    "category=a": lambda known: known.category == "a",
    "category=a|b": lambda known: known.category in ("a", "b"),
    "category!=c,images<1": lambda known: known.category != "c" and known.images < 1,
    "modality~image": lambda known: known.images > 0,
    "modality=text": lambda known: known.images == 0,
    "text_characters>=100": lambda known: known.characters >= 100,
    "images>=1,text_characters<150": lambda known: known.images >= 1 and known.characters < 150,
    "licence=x": lambda known: False,
}


class Epochs:
    """The epochs of a reading by the oracles: keys of samples in order; `state` is the loader's first."""

    def __init__(self, reading: Reading, pool: Pool, state: dict[str, Any], global_batch: int) -> None:
        self.tinies = [pool.datasets[number] for number in reading.datasets]
        orders = []
        for tiny in self.tinies:
            live = live_through(tiny, reading.where, pool)
            orders.append(Order(live, tiny.shape.block, reading.seed, state["lanes"], state["window"]))
        self.orders = tuple(orders)
        self.mixed: Mixed | None = None
        if len(orders) > 1:
            parts = [(0, reading.weights or ()), *((at * global_batch, weights) for at, weights in reading.schedule)]
            segments = tuple((position, counts_of(weights, state["lanes"])) for position, weights in parts)
            found = [(segment["position"], tuple(segment["counts"])) for segment in state["mix"]["segments"]]
            assert found == list(segments), f"the state mixes {found}, wanted {segments}"
            self.mixed = Mixed(self.orders, reading.seed, reading.exhausted, segments)
        self._made: dict[int, list[str]] = {}

    def __call__(self, epoch: int) -> list[str]:
        """Keys of an epoch."""
        if epoch not in self._made:
            self._made[epoch] = self._make(epoch)
        return self._made[epoch]

    def line(self, place: int) -> str:
        """The sample at a place of all epochs one behind the other."""
        epoch = 0
        while place >= len(self(epoch)):
            place -= len(self(epoch))
            epoch += 1
        return self(epoch)[place]

    def _make(self, epoch: int) -> list[str]:
        if self.mixed is not None:
            return [self.tinies[s].keys[place] for s, place in mixed_epoch(self.mixed, epoch)]
        return [self.tinies[0].keys[place] for place in epoch_places(self.orders[0], epoch)]


def live_through(tiny: Tiny, where: str | None, pool: Pool) -> tuple[tuple[int, ...], ...]:
    """Live ordinals of every shard that a filter takes."""
    fits = FILTERS[where] if where is not None else lambda known: True
    return tuple(
        tuple(ordinal for ordinal in ordinals if fits(pool.known[tiny.keys[shard, ordinal]]))
        for shard, ordinals in enumerate(tiny.shape.live)
    )


def can_be_read(reading: Reading, pool: Pool) -> bool:
    """Whether there is a sample at all, of every dataset whose weight is not 0 throughout."""
    sizes = [sum(map(len, live_through(pool.datasets[at], reading.where, pool))) for at in reading.datasets]
    return all(sizes)


def first_state(reading: Reading, pool: Pool, **topology: int) -> dict[str, Any]:
    """The state before the first sample."""
    fields: dict[str, Any] = {**reading.fields, **topology, "tail": "pad"}
    return dict(open_loader(reading.open(pool), **fields).state_dict())
