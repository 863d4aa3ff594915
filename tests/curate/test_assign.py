"""Dividing groups among splits: shares met in strata and over all, whatever the groups' sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.curate.assign import assign

SHARES = np.array([0.85, 0.10, 0.05])


def random_groups(seed: int, groups: int, strata: int, largest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 1 << 63, groups, dtype=np.uint64)
    return hashes, draw.integers(0, strata, groups), draw.integers(1, largest + 1, groups)


def shares_of(chosen: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.bincount(chosen, weights=sizes, minlength=len(SHARES)) / sizes.sum()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), strata=st.integers(1, 5000), largest=st.integers(1, 20))
def test_shares_of_ten_thousand_samples_are_met_within_a_hundredth(seed: int, strata: int, largest: int) -> None:
    hashes, stratum, sizes = random_groups(seed, 2 * 10_000 // (largest + 1), strata, largest)
    kept = np.full(len(sizes), -1)
    assert np.abs(shares_of(assign(hashes, stratum, sizes, kept, SHARES), sizes) - SHARES).max() < 0.01


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30), strata=st.integers(1, 30), large=st.lists(st.integers(20, 2000), max_size=4),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.95, 0.025, 0.025), (0.5, 0.3, 0.2)]),
)  # fmt: skip
def test_a_few_large_groups_among_small_ones_leave_the_shares_as_they_should_be(
    seed: int, strata: int, large: list[int], shares: tuple[float, ...]
) -> None:
    hashes, stratum, sizes = random_groups(seed, 10_000 - sum(large) + len(large), strata, 1)
    sizes[: len(large)] = large
    chosen = assign(hashes, stratum, sizes, np.full(len(sizes), -1), np.array(shares))
    assert np.abs(shares_of(chosen, sizes) - shares).max() < 0.01


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), strata=st.integers(1, 20))
def test_every_large_stratum_meets_the_shares(seed: int, strata: int) -> None:
    hashes, stratum, sizes = random_groups(seed, 1000 * strata, strata, 1)
    chosen = assign(hashes, stratum, sizes, np.full(len(sizes), -1), SHARES)
    for number in range(strata):
        own = stratum == number
        counts = np.bincount(chosen[own], minlength=3)
        assert np.abs(counts - SHARES * own.sum()).max() < 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), before=st.integers(1, 400), added=st.integers(0, 3000))
def test_groups_keep_what_they_have_and_the_others_make_up_for_it(seed: int, before: int, added: int) -> None:
    hashes, stratum, sizes = random_groups(seed, before + added, 3, 1)
    kept = np.full(len(sizes), -1)
    kept[:before] = assign(hashes[:before], stratum[:before], sizes[:before], kept[:before], SHARES)
    chosen = assign(hashes, stratum, sizes, kept, SHARES)
    assert (chosen[:before] == kept[:before]).all()
    assert np.abs(shares_of(chosen, sizes) - SHARES).max() < 0.01 + 3 / len(sizes)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), order=st.randoms())
def test_the_order_in_which_groups_come_makes_no_difference(seed: int, order: object) -> None:
    hashes, stratum, sizes = random_groups(seed, 300, 7, 5)
    hashes = np.unique(hashes)[np.random.default_rng(seed).permutation(len(np.unique(hashes)))]
    stratum, sizes = stratum[: len(hashes)], sizes[: len(hashes)]
    shuffled = np.random.default_rng(seed + 1).permutation(len(hashes))
    kept = np.full(len(hashes), -1)
    one = assign(hashes, stratum, sizes, kept, SHARES)
    other = assign(hashes[shuffled], stratum[shuffled], sizes[shuffled], kept, SHARES)
    assert (one[shuffled] == other).all()
