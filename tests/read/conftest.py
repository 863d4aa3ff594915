"""Fixtures of the tests of reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.read.serve import FolderServer, serve_folder
from tests.read.caches import BLOCK
from tests.read.made import make_dataset, numbered


@pytest.fixture(scope="module", params=["tar", "tar.zst"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    make_dataset(folder, numbered([32, 32], images=False), codec=request.param, block=BLOCK)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FolderServer]:
    with serve_folder(root) as running:
        yield running
