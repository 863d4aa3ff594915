"""Fixtures of the sources' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shardkit.spec import AnySource
from tests.sources.kinds import Opened


@pytest.fixture(scope="session")
def shared(shared_data: Path) -> Path:
    """The folder of real files; tests that need it are skipped where it is absent."""
    return shared_data


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[AnySource], Opened]:
    """Open and pin a spec; further calls pin into folders of their own."""
    count = iter(range(1000))

    def open_it(spec: AnySource) -> Opened:
        return Opened(spec, tmp_path / f"private{next(count)}")

    return open_it
