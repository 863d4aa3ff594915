"""Peak memory of a build's processes does not grow with its input, however slow the consumer is."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.build.making import command, questions, save_spec, spec_of
from tools.faults.memory import measure, problems_of_peaks
from tools.faults.tree import Tree, peak_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def test_ten_times_the_samples_take_no_more_memory(tmp_path: Path) -> None:
    """The full size is `python -m tools.faults memory`."""
    small = measure(1_200, 1, tmp_path / "small")
    large = measure(12_000, 1, tmp_path / "large")
    assert problems_of_peaks(small, large) == []


def test_large_rows_stay_within_the_budget_with_a_slow_consumer(tmp_path: Path) -> None:
    few = peak_of_large_rows(tmp_path / "few", 60)
    many = peak_of_large_rows(tmp_path / "many", 300)
    assert many < 1.1 * few
    assert many < 256 << 20


def peak_of_large_rows(folder: Path, rows: int) -> int:
    """Peak of the whole tree with rows of 400 kB; all of them together would be many times the budget."""
    folder.mkdir()
    noise = random.Random(1)
    letters = "".join(noise.choices("abcdefghijklmnopqrstuvwxyz ", k=500_000))
    with (folder / "q.jsonl").open("w", encoding="utf-8") as file:
        for at in range(rows):
            file.write(json.dumps({"question": f"number {at}", "answer": letters[at : at + 400_000]}) + "\n")
    limits = {"memory_bytes": 256 << 20, "shard_bytes": 8 << 20, "shard_samples": 1000}
    spec = save_spec(folder / "spec.yaml", spec_of(questions(folder / "q.jsonl"), limits=limits))
    slow = json.dumps({"seconds": {"staging": 0.002}})
    arguments = command("build", spec, "--out", folder / "dataset", "--workers", "1")[3:]
    tree = Tree(["shardkit", *arguments], folder / "run", {"SHARDKIT_PHASES": slow})
    peaks: dict[int, int] = {}
    while tree.running():
        for pid, peak in peak_memory(tree.pid).items():
            peaks[pid] = max(peaks.get(pid, 0), peak)
        time.sleep(0.02)
    assert tree.wait(60).code == 0
    return sum(peaks.values())
