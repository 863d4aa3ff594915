"""Killed at any call of the writing module, also while recovering, a build finishes with the same version."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.conftest import Golden
from tools.faults.calls import kill_at_calls


def test_kill_at_every_call_resumes_to_the_same_version(least: Golden, scratch: Path) -> None:
    calls = range(1, len(least.log) + 1)
    kills = list(kill_at_calls(least.spec, least.version, calls, random.Random(1), scratch))
    assert [kill for kill in kills if kill.problems] == []
    assert [kill.calls[0] for kill in kills] == list(calls)
    assert sum(len(kill.calls) > 1 for kill in kills) > len(kills) // 3
