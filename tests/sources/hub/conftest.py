"""Fixtures: a Hub on loopback as the user's own, without anybody's token, and pauses that do not last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit.store import patience
from tests.servers.hub import Hub, hub_server
from tests.sources.hub.repositories import Opened, Opener, spec
from tests.store.buckets import use_environment


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> Iterator[Hub]:
    """An empty Hub, where HF_ENDPOINT says."""
    with hub_server({}) as server:
        use_environment(monkeypatch, HF_ENDPOINT=server.url)
        yield server


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause between attempts would have been; none is made."""
    seconds: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open and pin a source of the Hub, each into a folder of its own."""
    count = iter(range(1000))

    def open_it(**fields: Any) -> Opened:
        return Opened(spec(**fields), tmp_path / f"private{next(count)}")

    return open_it
