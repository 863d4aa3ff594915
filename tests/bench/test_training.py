"""The benchmark of training: its figures by hand, and the whole of it on the tiny profile."""

from __future__ import annotations

import json

import pytest

from tools.bench.training import figures_of, main


def line(step: int, rate: float, wait: float) -> dict[str, float]:
    return {"step": step, "loss": 1.0, "tokens_per_second": rate, "data_wait": wait, "peak_memory_bytes": step * 2**30}


def test_figures_leave_the_first_steps_out_and_take_medians() -> None:
    lines = [line(1, 1.0, 0.9), *(line(step, 100.0 * step, 0.01) for step in (2, 3, 4))]
    assert figures_of(lines) == {
        "steps": 3, "tokens_per_second": 300.0, "data_wait_mean": pytest.approx(0.01), "data_wait_p99": 0.01,
        "peak_memory_gib": 4.0,
    }  # fmt: skip


def test_the_tiny_profile_runs_to_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--samples", "8", "--steps", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["steps"] == 3 and found["tokens_per_second"] > 0 and 0 <= found["data_wait_mean"] <= 1
