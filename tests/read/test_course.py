"""Mixing in closed form: words within one sample of their shares, courses equal to counting slot by slot."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from math import gcd

import blake3
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shardkit.errors import SpecError, StateConflict
from shardkit.read import course
from shardkit.read.course import EpochCourse, RepeatingCourse, Sources, open_course
from shardkit.read.mix import Mix, Mixing, MixState, Segment, first_mix, shares_of
from shardkit.read.word import LENGTHS, LONG_LENGTHS, Word, apportion, quantise

COUNTS = st.lists(st.sampled_from([0, 1, 1, 2, 3, 7, 40, 300]), min_size=1, max_size=6).filter(any).map(tuple)


@settings(max_examples=80, deadline=None)
@given(COUNTS)
def test_no_prefix_of_a_word_is_a_whole_sample_off(counts: tuple[int, ...]) -> None:
    word = Word(counts)
    taken = np.array([np.cumsum(word.slots == source) for source in range(len(counts))])
    shares = np.arange(1, word.length + 1) * np.array(counts)[:, None] / word.length
    assert np.abs(taken - shares).max() < 1
    assert taken[:, -1].tolist() == list(counts)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.sampled_from([1, 2, 3, 8, 16]))
def test_numbers_of_occurrences_are_those_that_one_counts(counts: tuple[int, ...], lanes: int) -> None:
    assume(gcd(sum(counts), lanes) == 1)
    word = Word(counts)
    in_lanes = word.in_lanes(lanes)
    slots = np.arange(2 * word.length + 3 * lanes)
    sources, index = word.index(slots)
    rows = in_lanes.index(slots, sources)
    seen: Counter[object] = Counter()
    for slot, source in enumerate(sources.tolist()):
        if slot % 7 == 0:
            assert word.counts_before(slot).tolist() == [seen[at] for at in range(len(counts))]
            before = [[seen[lane, at] for at in range(len(counts))] for lane in range(lanes)]
            assert in_lanes.counts_before(slot).tolist() == before
        assert index[slot] == seen[source] and word.nth(source, seen[source]) == slot
        lane = slot % lanes
        assert rows[slot] == seen[lane, source]
        assert in_lanes.nth(source, np.array([lane]), np.array([seen[lane, source]])).tolist() == [slot]
        seen[source] += 1
        seen[lane, source] += 1


def test_words_are_the_ones_that_FORMAT_md_defines() -> None:  # noqa: N802
    """Pinned: a saved state must mean the same order in every later version."""
    assert Word((5, 3, 1)).slots.tolist() == [0, 1, 0, 0, 1, 2, 1, 0, 0]
    assert Word((1, 1, 4, 1)).slots.tolist() == [2, 2, 0, 2, 3, 2, 1]
    slots = Word((45865, 19656)).slots.astype(np.uint8).tobytes()
    assert blake3.blake3(slots).hexdigest(length=8) == "c37af1ac090dbb13"
    assert quantise((7, 3), 1024) == (45865, 19656)
    assert quantise((1, 2), 1024) == (1, 2) and quantise((1, 2), 3) == (21840, 43681)
    assert quantise((1, 0, 1), 4) == (32761, 0, 32760)


def test_a_rare_source_gets_a_slot_and_lengths_fit_the_lanes() -> None:
    assert sum(quantise((1, 10**6), 1024)) == LONG_LENGTHS[0]
    assert quantise((1, 10**9), 1024)[0] == 1
    assert sum(quantise((1, 1), LENGTHS[0])) == LENGTHS[1]
    assert sum(quantise((999, 1), 1024)) == LENGTHS[0]
    assert shares_of((0.7, 0.3)) == (7, 3) and shares_of((1e-3, 2)) == (1, 2000)
    for shares in ((0, 0), (), (1, -1)):
        with pytest.raises(SpecError, match="one above 0"):
            quantise(shares, 8)


Drawn = tuple[MixState, Sources]


@st.composite
def mixes(draw: st.DrawFn, exhausted: str) -> Drawn:
    count = draw(st.integers(1, 4))
    sizes = tuple(draw(st.integers(1, 60)) for _ in range(count))
    lanes = draw(st.sampled_from([1, 2, 4, 8]))
    used = tuple(lanes if size >= 2 * lanes else 1 for size in sizes)
    weights = st.lists(st.integers(0, 9), min_size=count, max_size=count).filter(any)
    positions = [0, *sorted(draw(st.sets(st.integers(1, 150), max_size=3)))]
    segments = []
    for position in positions:
        shares = draw(weights)
        counts = tuple(shares) if gcd(sum(shares), lanes) == 1 else apportion(shares, 31)
        segments.append(Segment(position, counts))
    return MixState(exhausted=exhausted, segments=tuple(segments)), Sources(sizes, lanes, used)  # type: ignore[arg-type]


def slots_of(mix: MixState) -> Iterator[int]:
    """The sources of a mix's slots, one after the other."""
    for segment, following in itertools.pairwise([*mix.segments, None]):
        assert segment is not None
        slots = Word(segment.counts).slots.tolist()
        length = None if following is None else following.position - segment.position
        yield from itertools.islice(itertools.cycle(slots), length)


@settings(max_examples=150, deadline=None)
@given(mixes("repeat"))
def test_repeating_course_is_what_counting_gives(drawn: Drawn) -> None:
    mix, sources = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "ALIGNED_LEAST", 3)
        made = open_course(mix, sources)
        assert isinstance(made, RepeatingCourse)
        sizes = [made.size(epoch) for epoch in range(3)]
        given_: Counter[object] = Counter()
        wanted = []
        for slot, source in zip(range(sum(sizes)), slots_of(mix), strict=False):
            size, lane = sources.sizes[source], slot % sources.lanes
            if sources.aligned(source):
                length = size // sources.lanes + (lane < size % sources.lanes)
                at_pass, row = divmod(given_[source, lane], length)
                wanted.append((source, at_pass, row * sources.lanes + lane))
                given_[source, lane] += 1
            else:
                wanted.append((source, *divmod(given_[source], size)))
            given_[source] += 1
        found = [row for epoch, size in enumerate(sizes) for row in rows(made, epoch, size)]
        assert found == wanted
        assert made.taken(2, sizes[2]).tolist() == [given_[source] for source in range(len(sources.sizes))]
    last = mix.segments[-1].counts
    for epoch in range(3):
        ended = found[: sum(sizes[: epoch + 1])]
        full = {(s, epoch, at) for s, size in enumerate(sources.sizes) if last[s] for at in range(size)}
        assert full <= set(ended) and not full <= set(ended[:-1])  # every sample of the pass, and not a slot too late
        assert len(set(found)) == len(found)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["stop", "reweight"]).flatmap(mixes))
def test_epochs_of_one_pass_end_where_they_should(drawn: Drawn) -> None:
    mix, sources = drawn
    try:
        made = open_course(mix, sources)
    except StateConflict:
        assert min(sources.sizes) < 2  # an epoch without a slot
        return
    assert isinstance(made, EpochCourse)
    for epoch in range(4):
        size = made.size(epoch)
        found = rows(made, epoch, size)
        taken = [[at for source, _, at in found if source == number] for number in range(len(sources.sizes))]
        assert all(at_pass == epoch for _, at_pass, _ in found)
        assert all(ats == list(range(len(ats))) and len(ats) <= sources.sizes[s] for s, ats in enumerate(taken))
        full = [len(ats) == size for ats, size in zip(taken, sources.sizes, strict=True)]
        if mix.exhausted == "reweight" and len(mix.segments) == 1:
            assert full == [count > 0 for count in mix.segments[0].counts]
        assert any(full) if mix.exhausted == "stop" else True


def rows(made: RepeatingCourse | EpochCourse, epoch: int, size: int) -> list[tuple[int, int, int]]:
    found = made.locate(epoch, np.arange(size))
    one_by_one = [made.locate(epoch, np.array([position])) for position in range(0, size, 17)]
    columns = list(zip(*(column.tolist() for column in found), strict=True))
    assert [(int(a[0]), int(b[0]), int(c[0])) for a, b, c in one_by_one] == columns[::17]
    return columns


def test_aligned_lanes_stay_in_their_lane_and_drift_little() -> None:
    mix = MixState(exhausted="repeat", segments=(Segment(0, quantise((1, 1, 2), 64)),))
    sources = Sources((64 * 4096, 64 * 4096 + 5, 1000), 64, (64, 64, 31))
    made = open_course(mix, sources)
    positions = np.arange(0, 400_000)
    found = made.locate(0, positions)
    for source in (0, 1):
        here = found.sources == source
        assert (found.positions[here] % 64 == positions[here] % 64).all()
        got = np.bincount(positions[here] % 64, minlength=64)
        assert np.ptp(got) < 400
    assert made.size(0) < 64 * 4096 * 4 * 1.05


def test_a_schedule_that_the_epochs_never_reach_is_refused() -> None:
    mix = MixState(exhausted="stop", segments=(Segment(0, (1, 1)), Segment(1 << 50, (1, 2))))
    with pytest.raises(StateConflict, match="schedule"):
        open_course(mix, Sources((3, 3), 4, (1, 1)))
    endless = MixState(exhausted="repeat", segments=(Segment(0, (1, 2)),))
    with pytest.raises(StateConflict, match="beyond"):
        open_course(endless, Sources((3, 3), 4, (1, 1))).size(1 << 62)


def mixing(mix: Mix | None, weights: tuple[float, ...] | None = None) -> Mixing:
    return Mixing(mix=mix, weights=weights, sizes=(100, 10_000), lanes=64, global_batch=32)


def test_weights_temperature_and_schedule_become_whole_numbers() -> None:
    assert first_mix(mixing(None)).segments[0].counts == quantise((1, 100), 64)
    assert first_mix(mixing(None, (2.0, 1.0))).segments[0].counts == (2, 1)
    assert first_mix(mixing(Mix(temperature=2), (2.0, 1.0))).segments[0].counts == (1, 10)
    assert first_mix(mixing(Mix(temperature=float("inf")))).segments[0].counts == quantise((1, 1), 64)
    curriculum = first_mix(mixing(Mix(weights=(1, 0), schedule=((10, (1, 2)),))))
    assert [(segment.position, segment.counts) for segment in curriculum.segments] == [(0, (1, 0)), (320, (1, 2))]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": (1.0,), "temperature": 2}, "both given"),
        ({"temperature": 0}, "temperature is 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"weights": (-1.0, 2)}, "weight -1"),
        ({"weights": (0.0, 0)}, "every weight is 0"),
        ({"weights": (float("nan"), 1)}, "weight nan"),
        ({"weights": ("a", 1)}, "weight 'a'"),
        ({"exhausted": "never"}, "one of repeat, stop, reweight"),
        ({"schedule": ((0, (1, 1)),)}, "ascending from 1"),
        ({"schedule": 3}, "wanted pairs"),
        ({"schedule": (5, (1, 1))}, "wanted pairs"),
        ({"schedule": ((5, 1),)}, "wanted pairs"),
        ({"schedule": ((5, (1, 1)), (5, (1, 2)))}, "ascending from 1"),
    ],
)  # fmt: skip
def test_impossible_mixes_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Mix(**fields)  # type: ignore[arg-type]


def test_as_many_weights_as_datasets_are_wanted() -> None:
    with pytest.raises(SpecError, match="3 weights for 2 datasets"):
        first_mix(mixing(Mix(weights=(1, 1, 1))))


def test_an_epoch_that_stops_where_a_segment_begins_goes_on_with_its_word() -> None:
    """The slot at a segment's position is the segment's: it ends the epoch only if its own source would repeat."""
    segments = (Segment(0, (1, 0)), Segment(1, (0, 1)))
    made = open_course(MixState(exhausted="stop", segments=segments), Sources((1, 5), 1, (1, 1)))
    assert [made.size(epoch) for epoch in range(3)] == [6, 5, 5]
    assert made.locate(0, np.arange(6)).sources.tolist() == [0, 1, 1, 1, 1, 1]
