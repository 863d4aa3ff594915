"""Steps: ranks share an epoch exactly, whatever the world size and the batch size were before."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from shardkit.errors import SpecError
from shardkit.read.spec import LoaderSpec, Tail
from shardkit.read.steps import Step, check_steps, count_steps, plan_steps

WORLDS = (1, 2, 3, 4, 8)


def all_ranks(position: int, samples: int, batch: int, world: int, tail: Tail) -> list[list[Step]]:
    """Steps by number, then by rank; all ranks have the same number and agree on what follows."""
    ranks = [
        list(plan_steps(position, samples, LoaderSpec(batch_size=batch, rank=rank, world_size=world), tail))
        for rank in range(world)
    ]
    assert len({len(steps) for steps in ranks}) == 1
    steps = [list(step) for step in zip(*ranks, strict=True)]
    assert all(len({(one.after, one.ends_epoch) for one in step}) == 1 for step in steps)
    assert [step[0].ends_epoch for step in steps] == [False] * (len(steps) - 1) + [True] * bool(steps)
    return steps


def positions(steps: list[list[Step]]) -> list[int]:
    return [at for step in steps for one in step for at in range(one.start, one.stop)]


def test_changes_of_topology_within_an_epoch_leave_the_sequence_as_it_is() -> None:
    """3,000 epochs, each read under one to four topologies in turn."""
    choose = random.Random(0)
    for _ in range(3000):
        samples, tail = choose.randrange(1, 400), choose.choice(("drop", "pad", "split"))
        seen: list[int] = []
        position, over = 0, False
        for _ in range(choose.randrange(4)):
            world, batch = choose.choice(WORLDS), choose.randrange(1, 12)
            steps = all_ranks(position, samples, batch, world, tail)
            taken = list(islice(steps, choose.randrange(len(steps) + 1)))
            seen += positions(taken)
            over = bool(taken) and taken[-1][0].ends_epoch
            position = taken[-1][0].after if taken else position
            if over:
                break
        if not over:
            world, batch = choose.choice(WORLDS), choose.randrange(1, 12)
            steps = all_ranks(position, samples, batch, world, tail)
            seen += positions(steps)
        assert seen[:samples] == list(range(min(samples, len(seen))))
        if tail == "pad":
            assert len(seen) >= samples


@pytest.mark.parametrize("world", WORLDS)
def test_tails(world: int) -> None:
    for samples in range(1, 60):
        full, left = divmod(samples, 3 * world)
        dropped = all_ranks(0, samples, 3, world, "drop")
        assert positions(dropped) == list(range(full * 3 * world))
        padded = all_ranks(0, samples, 3, world, "pad")
        assert positions(padded) == list(range((full + (left > 0)) * 3 * world))
        split = all_ranks(0, samples, 3, world, "split")
        assert positions(split) == list(range(samples if left >= world else samples - left))
        if left >= world:
            sizes = [one.stop - one.start for one in split[-1]]
            assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        for tail, steps in (("drop", dropped), ("pad", padded), ("split", split)):
            spec = LoaderSpec(batch_size=3, world_size=world)
            assert count_steps(0, samples, spec, tail) == len(steps)  # type: ignore[arg-type]


def test_a_dataset_that_could_never_fill_a_step_is_refused() -> None:
    with pytest.raises(SpecError, match=r"7 samples.*tail='drop' drops them all"):
        check_steps(7, LoaderSpec(batch_size=8), "drop")
    check_steps(7, LoaderSpec(batch_size=8), "pad")
    with pytest.raises(SpecError, match="no samples"):
        check_steps(0, LoaderSpec(), "pad")
    with pytest.raises(SpecError, match="drops them all"):
        check_steps(3, LoaderSpec(batch_size=8, world_size=4), "split")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"rank": 2, "world_size": 2}, "below 2"),
        ({"tail": "keep"}, "tail is 'keep'"),
        ({"on_damage": "ignore"}, "on_damage is 'ignore'"),
        ({"mix": {"a": 1}}, "wanted Mix"),
        ({"pack": 2048}, "pack is 2048; wanted Pack"),
        ({"where": "licence"}, "wanted FIELD OP VALUE"),
        ({"cache_bytes": 5}, "cache is not"),
        ({"cache": "somewhere", "cache_bytes": -1}, "cache_bytes is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"lanes": 0}, "lanes is 0"),
        ({"window": 0}, "window is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_impossible_arguments_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LoaderSpec(**fields)  # type: ignore[arg-type]
