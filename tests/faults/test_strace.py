"""SIGKILL at system calls of a build in one thread, delivered by strace; and nothing writes past the one module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import Golden
from tools.faults import strace
from tools.faults.warm import Warm

KILLS = 40

pytestmark = pytest.mark.skipif(bool(strace.why_not()), reason=strace.why_not() or "strace is here")


def test_kill_at_system_calls_resumes_to_the_same_version(least: Golden, scratch: Path) -> None:
    with Warm() as warm:
        calls = strace.count_calls(warm, least.path, scratch)
        step = max(1, len(calls) // KILLS)
        kills = list(strace.kill_at_calls(warm, least.path, least.version, calls[::step], scratch))
    assert [kill for kill in kills if kill.problems] == []
    assert sum(kill.inside for kill in kills) > 0.9 * len(kills)


def test_all_system_calls_that_write_come_from_the_one_module(least: Golden, scratch: Path) -> None:
    with Warm() as warm:
        calls = strace.count_calls(warm, least.path, scratch)
    assert len(calls) == len(least.log)
