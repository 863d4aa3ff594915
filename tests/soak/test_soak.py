"""A short soak, by rounds and not by time: killed readers and servers, the sequence exact."""

from __future__ import annotations

from pathlib import Path

from tools.soak.run import Sequence, Soak


def test_killed_readers_and_servers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    soak = Soak(tmp_path, seed=5)
    figures = soak.run(seconds=0, rounds=3)
    assert figures.wrong == ()
    assert figures.rounds == 3 and figures.steps > 4 and figures.samples > figures.steps
    assert figures.kills_of_readers > 0 and figures.kills_of_servers > 0


def test_another_sequence_is_noticed(tmp_path: Path) -> None:
    soak = Soak(tmp_path, seed=5)
    right = soak.wanted
    soak.wanted = Backwards(tmp_path / "data")
    figures = soak.run(seconds=0, rounds=1)
    assert figures.wrong and right.take(0, 3) != soak.wanted.take(0, 3)


class Backwards(Sequence):
    """Another order."""

    def take(self, place: int, count: int) -> list[str]:
        return super().take(place, count)[::-1] or ["none"]
