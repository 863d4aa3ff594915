"""Batches mix sources nearly as a true permutation does, though every shard holds one source only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.shuffle_quality import BATCHES, MOST_CORRELATION, Setting, figures_of, measure, our_order, plot, shuffles_of

SETTING = Setting()
SMALL = Setting(shards=120, samples_a_shard=1800, sources=6, sample_bytes=8192)


def test_our_batches_are_within_the_limits() -> None:
    order = our_order(SETTING)
    figures = figures_of(order.locate_many(np.arange(len(order)))[0], SETTING)
    for batch, most in BATCHES.items():
        assert figures[str(batch)]["variance"] <= most
        assert abs(figures[str(batch)]["correlation"]) < MOST_CORRELATION


def test_figures_tell_shuffles_apart() -> None:
    """A true permutation is about 1; shards shuffled whole are far off; a mix that comes again correlates."""
    chance = np.random.default_rng(1)
    perfect = figures_of(chance.permutation(SETTING.samples) // SETTING.samples_a_shard, SETTING)
    whole = figures_of(np.repeat(chance.permutation(SETTING.shards), SETTING.samples_a_shard), SETTING)
    again = figures_of(np.tile(chance.integers(0, SETTING.shards, 100 * 256), 39), SETTING)
    assert all(0.9 < perfect[str(batch)]["variance"] < 1.1 for batch in BATCHES)
    assert whole["256"]["variance"] > 100 and again["256"]["correlation"] > 0.99


def test_every_shuffle_gives_every_sample_once(tmp_path: Path) -> None:
    for shuffle in shuffles_of(SMALL):
        assert np.bincount(shuffle.shards_in_turn(), minlength=SMALL.shards).tolist() == [1800] * 120, shuffle.name
    pytest.importorskip("matplotlib")
    result = measure(SMALL)
    plot(result, tmp_path / "shuffles.png")
    assert (tmp_path / "shuffles.png").read_bytes().startswith(b"\x89PNG")
    assert [row["name"] for row in result["shuffles"]][:2] == ["true permutation", "shardkit"]
