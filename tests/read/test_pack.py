"""Packing and length bucketing as pure functions of a lane: nothing lost, budgets kept, filled, resumed anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shardkit.errors import SpecError, StateConflict
from shardkit.read.pack import Buckets, Candidate, Cost, Pack, Packing, lanes_for, next_pack
from shardkit.read.pack_state import LaneState, back, deal, deal_workers, first_lanes, forward

Sizes = Callable[[int], tuple[int, int, int]]
"""Tokens, images and milliseconds of the n-th sample of a lane."""


def lane(packing: Packing, sizes: Sizes, carried: tuple[int, ...] = (), start: int = 0) -> Iterator[list[Candidate]]:
    """The packs of a lane that stands at `start` with these samples carried."""
    pool: list[Candidate] = []
    numbers = iter(carried)
    ahead = count(start)

    def draw() -> Candidate:
        at = next(numbers, None)
        at = next(ahead) if at is None else at
        tokens, images, ms = sizes(at)
        excess = packing.excess(Cost(tokens=tokens, images=images, audio_seconds=ms / 1000))
        return Candidate(at, tokens, images, ms, not excess, None)

    while True:
        yield next_pack(packing, pool, draw)


def drawn(seed: int, most: int) -> Sizes:
    def sizes(at: int) -> tuple[int, int, int]:
        choose = random.Random(f"{seed} {at}")
        return choose.randrange(1, most + 1), choose.choice([0, 0, 1, 3]), choose.choice([0, 0, 1500])

    return sizes


packs = st.builds(
    Pack,
    tokens=st.integers(1, 300) | st.integers(1000, 2000),
    images=st.none() | st.integers(0, 5),
    audio_seconds=st.none() | st.sampled_from([0.0, 1.5, 2.0, 3.1]) | st.floats(0, 5),
    candidates=st.integers(1, 9),
    oversized=st.just("alone"),
)
buckets = st.builds(
    Buckets, tokens=st.integers(1, 300), candidates=st.integers(1, 9), oversized=st.just("alone")
) | st.builds(
    lambda samples, more: Buckets(samples=samples, candidates=samples + more), st.integers(1, 5), st.integers(0, 5)
)


@settings(max_examples=60, deadline=None)
@given(packs | buckets, st.integers(0, 5))
def test_every_sample_comes_once_within_the_budget_and_none_starves(packing: Packing, seed: int) -> None:
    sizes = drawn(seed, 200)
    seen: list[int] = []
    made = lane(packing, sizes)
    for _ in range(40):
        pack = next(made)
        oldest_waiting = next(at for at in count() if at not in seen)
        assert min(one.at for one in pack) == oldest_waiting, "every pack holds the oldest"
        seen += [one.at for one in pack]
        if len(pack) == 1 and not pack[0].fits:
            continue
        if isinstance(packing, Pack):
            assert sum(one.tokens for one in pack) <= packing.tokens
            assert packing.images is None or sum(one.images for one in pack) <= packing.images
            assert (
                packing.audio_seconds is None or sum(one.audio_ms for one in pack) <= 1000 * packing.audio_seconds + 1
            )
        elif packing.tokens is not None:
            assert len(pack) * max(one.tokens for one in pack) <= packing.tokens
        else:
            assert len(pack) == packing.samples
    assert len(seen) == len(set(seen))


class Plain:
    """The definition in FORMAT.md written once more, slowly."""

    def __init__(self, packing: Packing, sizes: Sizes) -> None:
        self.packing, self.sizes = packing, sizes
        self.waiting: list[int] = []
        self.fresh = count()

    def next(self) -> list[int]:
        self.fill()
        return self.pack() if isinstance(self.packing, Pack) else self.bucket()

    def fill(self) -> None:
        while len(self.waiting) < self.packing.candidates:
            self.waiting.append(next(self.fresh))

    def fits(self, chosen: list[int]) -> bool:
        packing = self.packing
        tokens, images, ms = (sum(self.sizes(at)[kind] for at in chosen) for kind in range(3))
        if isinstance(packing, Buckets):
            return packing.tokens is None or len(chosen) * max(self.sizes(at)[0] for at in chosen) <= packing.tokens
        most = 1 << 60 if packing.audio_seconds is None else round(1000 * packing.audio_seconds)
        pictures = 1 << 60 if packing.images is None else packing.images
        return tokens <= packing.tokens and images <= pictures and ms <= most

    def pack(self) -> list[int]:
        chosen = [self.waiting.pop(0)]
        self.fill()
        while self.fits(chosen) and (possible := [at for at in self.waiting if self.fits([*chosen, at])]):
            best = max(possible, key=lambda at: (self.sizes(at)[0], -self.waiting.index(at)))
            self.waiting.remove(best)
            chosen.append(best)
            self.fill()
        return chosen

    def bucket(self) -> list[int]:
        assert isinstance(self.packing, Buckets)
        if not self.fits([self.waiting[0]]):
            return [self.waiting.pop(0)]
        fitting = [at for at in self.waiting if self.fits([at])]
        line = sorted(fitting, key=lambda at: (self.sizes(at)[0], self.waiting.index(at)))
        windows = [line[a:b] for b in range(1, len(line) + 1) for a in range(b)]
        windows = [window for window in windows if self.waiting[0] in window and self.fits(window)]
        if self.packing.samples is not None:
            windows = [window for window in windows if len(window) == self.packing.samples]
            best = min(windows, key=lambda window: (self.padding(window), line.index(window[0])))
        else:
            best = max(windows, key=lambda window: (self.total(window), -line.index(window[-1])))
        for at in best:
            self.waiting.remove(at)
        return best

    def total(self, window: list[int]) -> int:
        return sum(self.sizes(at)[0] for at in window)

    def padding(self, window: list[int]) -> int:
        return len(window) * self.sizes(window[-1])[0] - self.total(window)


@settings(max_examples=60, deadline=None)
@given(packs | buckets, st.integers(0, 5))
@example(Pack(tokens=500, candidates=64), 0)  # so many candidates that some are equal: the oldest is taken
def test_the_definition_written_once_more_gives_the_same_packs(packing: Packing, seed: int) -> None:
    sizes = drawn(seed, 200)
    made, plain = lane(packing, sizes), Plain(packing, sizes)
    for _ in range(25):
        assert [one.at for one in next(made)] == plain.next()


@pytest.mark.parametrize("packing", [Pack(tokens=500, images=4, candidates=8), Buckets(tokens=500, candidates=12)])
def test_a_lane_goes_on_from_its_position_and_its_carried_samples_alone(packing: Packing) -> None:
    sizes = drawn(3, 200)
    whole = lane(packing, sizes)
    packs = [[one.at for one in next(whole)] for _ in range(60)]
    for stop in range(1, 59):
        given = {at for pack in packs[:stop] for at in pack}
        # after a pack the pool is full: the lane has drawn `candidates` more than it gave
        size = packing.candidates if isinstance(packing, Pack) else packing.candidates - len(packs[stop - 1])
        reached = len(given) + size
        carried = tuple(sorted(set(range(reached)) - given))
        rest = lane(packing, sizes, carried, reached)
        assert [[one.at for one in next(rest)] for _ in range(60 - stop)] == packs[stop:]


LENGTHS: dict[str, Callable[[random.Random], int]] = {
    "chat": lambda choose: max(8, min(4096, int(choose.lognormvariate(5.5, 1.0)))),
    "documents": lambda choose: max(8, min(4096, int(choose.lognormvariate(7.0, 1.0)))),
    "even": lambda choose: choose.randrange(1, 1025),
    "short and long": lambda choose: choose.choice([4096, 90, 120, 160, 200, 300]),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_packs_are_filled_to_98_percent(name: str) -> None:
    choose = random.Random(7)
    lengths = [LENGTHS[name](choose) for _ in range(60_000)]
    made = lane(Pack(tokens=4096), lambda at: (lengths[at % len(lengths)], 0, 0))
    tokens = [sum(one.tokens for one in next(made)) for _ in range(400)]
    assert sum(tokens) / (400 * 4096) >= 0.98


def test_buckets_leave_a_small_part_of_the_padding_of_plain_batches() -> None:
    choose = random.Random(7)
    lengths = [LENGTHS["chat"](choose) for _ in range(60_000)]

    def share_padded(batches: list[list[int]]) -> float:
        return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)

    plain = share_padded([lengths[at : at + 8] for at in range(0, 3200, 8)])
    for packing, most in ((Buckets(samples=8), 0.15), (Buckets(tokens=4096), 0.15)):
        made = lane(packing, lambda at: (lengths[at], 0, 0))
        assert share_padded([[one.tokens for one in next(made)] for _ in range(400)]) < most < plain / 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokens": 0}, "Pack.tokens is 0; wanted a whole number from 1"),
        ({"tokens": 5, "candidates": None}, "Pack.candidates is None"),
        ({"tokens": 5, "oversized": "cut"}, "wanted skip, error or alone"),
        ({"tokens": 5, "audio_seconds": "1"}, "pack.audio_seconds is '1'"),
    ],
)
def test_what_packs_cannot_be_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Pack(**fields)  # type: ignore[arg-type]


def test_what_buckets_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="either `tokens`"):
        Buckets()
    with pytest.raises(SpecError, match="either `tokens`"):
        Buckets(tokens=5, samples=5)
    with pytest.raises(SpecError, match="200 samples is chosen from 128"):
        Buckets(samples=200)


def test_small_datasets_have_fewer_lanes() -> None:
    sizes = [1, 127, 128, 255, 256, 1 << 14, 1 << 40]
    assert [lanes_for(Pack(tokens=9), n) for n in sizes] == [1, 1, 1, 1, 2, 128, 128]
    assert lanes_for(Pack(tokens=9, lanes=5), 1) == 5
    assert lanes_for(Buckets(samples=8), 1 << 40) == 32


def test_positions_run_on_over_epochs_of_any_sizes_and_back() -> None:
    sizes = [3, 1, 7, 2] * 30
    line = [(epoch, position) for epoch, size in enumerate(sizes) for position in range(size)]
    for at in range(60):
        for by in range(0, 40, 3):
            assert forward(sizes.__getitem__, *line[at], by) == line[at + by]
            assert back(sizes.__getitem__, *line[at + by], by) == line[at]
    with pytest.raises(StateConflict, match="before the first"):
        back(sizes.__getitem__, 1, 0, 4)


def test_dealing_gives_every_lane_once_and_the_same_turns_to_any_number_of_ranks() -> None:
    lanes = [LaneState(number, 3 + (number < 5), 0, number, ()) for number in range(16)]
    turns = [lane.lane for lane in deal(lanes, 0, 1)]
    assert turns == [*range(5, 16), *range(5)]
    for ranks in (2, 3, 4, 16):
        dealt = [deal(lanes, rank, ranks) for rank in range(ranks)]
        assert sorted(lane.lane for own in dealt for lane in own) == list(range(16))
        assert [dealt[at % ranks][at // ranks].lane for at in range(16)] == turns
        parts = [deal_workers(dealt[0], worker, 2, 2) for worker in range(2)]
        assert sorted(lane.lane for part in parts for lane in part) == sorted(lane.lane for lane in dealt[0])


def test_first_lanes_begin_side_by_side_also_where_an_epoch_is_shorter() -> None:
    assert [(lane.epoch, lane.position) for lane in first_lanes(5, lambda epoch: 2)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
    ]
