"""Killed at random, a mix of five sources resumes to the same version, and its quotas are exact."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.faults.kill import Killer
from tools.faults.mix import REAL, mix_of, problems_of_quotas, write_mix
from tools.faults.runner import build_here

KILLS = 6


@pytest.mark.slow
def test_random_kills_of_a_mix_resume_to_the_same_version_with_exact_quotas(scratch: Path) -> None:
    spec = write_mix(scratch, scratch / "absent")
    golden = build_here(mix_of(spec), scratch / "golden").version
    assert problems_of_quotas(scratch / "golden") == []
    killer = Killer(spec, golden, random.Random(5), scratch / "work")
    chains = list(killer.chains(KILLS))
    assert [chain for chain in chains if chain.problems] == []
    assert killer.hits.total() == KILLS


def test_a_mix_of_real_files_meets_its_quotas(scratch: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("no real data at ../shared/data")
    build_here(mix_of(write_mix(scratch)), scratch / "golden")
    assert problems_of_quotas(scratch / "golden") == []
