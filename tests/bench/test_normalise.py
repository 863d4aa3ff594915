"""The rate of chat rows: rows are as told, every stage is measured, and the lane takes all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench.normalise import STAGES, by_stage, chat_line, prepare, whole_lane


@pytest.mark.parametrize("normalizer", ["messages", "question_answer"])
def test_rows_are_chats_of_500_to_1000_bytes(normalizer: str) -> None:
    lines = [chat_line(number, normalizer) for number in range(300)]
    assert lines[:20] == [chat_line(number, normalizer) for number in range(20)]
    assert all(400 <= len(line) <= 1100 for line in lines)
    assert 550 < sum(map(len, lines)) / len(lines) < 900
    if normalizer == "messages":
        assert {len(json.loads(line)["messages"]) for line in lines} == {2, 3, 4}


@pytest.mark.parametrize("normalizer", ["messages", "question_answer"])
def test_every_stage_and_the_whole_lane_are_measured(normalizer: str, tmp_path: Path) -> None:
    job = prepare(tmp_path, 200, normalizer)
    for threads in (None, 0, 2):
        assert whole_lane(job, threads, 1).rows_per_second > 0
    profile = by_stage(job, 1)
    assert set(profile) == set(STAGES)
    assert not list((tmp_path / "shards").iterdir()), "nothing is left behind"
