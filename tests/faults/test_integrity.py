"""A part of `python -m tools.faults integrity`: flipped bits and cuts through every reader, local and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardkit.spec import Codec
from tools.faults.integrity import READERS, Victim


@pytest.mark.parametrize(("codec", "every"), [("tar", 211), ("tar.zst", 31)])
def test_no_reader_hands_out_a_wrong_sample(tmp_path: Path, codec: Codec, every: int) -> None:
    victim = Victim(tmp_path / "data", codec)
    found = list(victim.damages(every))
    assert [damage.problems for damage in found if damage.problems] == []
    assert all(damage.noticed + damage.harmless == len(READERS) and damage.noticed for damage in found)


def test_a_reader_that_lets_damage_through_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = Victim(tmp_path / "data", "tar")
    monkeypatch.setitem(READERS, "number", lambda url: [])
    assert any("silent through number" in problem for damage in victim.damages(5000) for problem in damage.problems)
