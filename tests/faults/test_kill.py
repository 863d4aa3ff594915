"""Killed at random with its whole process tree, a build resumes to the same version."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.conftest import Golden
from tools.faults.kill import Killer

KILLS = 20


@pytest.mark.slow
def test_random_kills_of_the_process_tree_resume_to_the_same_version(small: Golden, scratch: Path) -> None:
    killer = Killer(small.path, small.version, random.Random(3), scratch)
    chains = list(killer.chains(KILLS))
    assert [chain for chain in chains if chain.problems] == []
    assert killer.hits.total() == KILLS
    assert {chain.workers for chain in chains} == {1, 2}
    assert len(killer.hits) >= 4, f"the kills hit only {dict(killer.hits)}"
