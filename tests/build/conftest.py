"""Fixtures of the build's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A target folder that does not exist yet."""
    return tmp_path / "dataset"
