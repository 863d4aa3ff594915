"""Splits, `dedup` and `import`, killed or failing at any call and run again, end as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shardkit.store.faults import Setting
from tools.faults.acts import ACTS, cut_each, fail_each, kill_each, undisturbed

LAST_CALLS = 56
"""Of a build with a split: what comes behind the plain build, of which every call is tried elsewhere."""


@pytest.mark.parametrize("name", ACTS)
def test_killed_or_failing_it_ends_as_if_nothing_had_happened(name: str, scratch: Path) -> None:
    act = ACTS[name]
    golden = undisturbed(act, scratch / "golden" / "dataset")
    calls = range(max(1, len(golden.log) - LAST_CALLS), len(golden.log) + 1)
    kills = list(kill_each(act, golden, calls[3::9], random.Random(3), scratch))
    faults = [Setting(fault=("enospc", "eio")[at % 2], at=at, lasting=at % 3 > 0) for at in calls[::19]]
    lies = [Setting(fault="flip", at=at, kinds=("write",)) for at in (2, 4)]
    done = list(fail_each(act, golden, [*faults, *lies], scratch))
    cuts = list(cut_each(act, golden, random.Random(4), 4, scratch))
    assert [one for one in [*kills, *done, *cuts] if one.problems] == []
    assert all(kill.calls for kill in kills)
    assert all(one.stopped for one in done if one.setting.lasting)
