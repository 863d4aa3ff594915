"""Every fuzz target under hypothesis, and kept inputs: an answer or a declared error, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import KEPT
from tools.fuzz.__main__ import main
from tools.fuzz.engine import fuzz, has_atheris, mutate
from tools.fuzz.targets import TARGETS, Target, try_one


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_altered_input_is_taken_or_refused(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    altered = bytearray(data.draw(st.sampled_from(target.seeds())))
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.integers(1, 6))):
        mutate(altered, rng)
    try_one(target, bytes(altered))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_bytes_are_taken_or_refused(name: str, data: bytes) -> None:
    try_one(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_reach_the_decoder(name: str) -> None:
    target = TARGETS[name]
    assert any(try_one(target, data) for data in target.seeds())


@pytest.mark.parametrize(("name", "what"), KEPT)
def test_input_that_once_broke_a_target_is_refused(name: str, what: str) -> None:
    assert not try_one(TARGETS[name], bytes.fromhex(KEPT[name, what]))


@pytest.mark.parametrize("engine", ["plain", "atheris"])
def test_engine_counts_executions_in_a_limited_process(tmp_path: Path, engine: str) -> None:
    if engine == "atheris" and not has_atheris():
        pytest.skip("atheris is not installed")
    outcome = fuzz("pointer", seconds=0, runs=300, seed=0, folder=tmp_path, engine=engine)
    assert outcome.failure == "" and outcome.executions >= 300


def test_failing_target_is_seen() -> None:
    def breaks(data: bytes) -> None:
        raise ValueError(data)

    with pytest.raises(ValueError):
        try_one(Target(breaks, lambda: [b""]), b"x")


def test_command_says_what_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "--runs", "50", "--seconds", "0", "--engine", "plain"]) == 0
    assert "held" in capsys.readouterr().out
