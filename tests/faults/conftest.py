"""The two small builds of tools.faults, made once, each with the version that an undisturbed build gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shardkit.spec import BuildSpec
from shardkit.store.fs import Operation
from tools.faults import tiny
from tools.faults.runner import record, scratch_folder


class Golden(NamedTuple):
    """A small build: its spec as a file and as a struct, the version and the log of an undisturbed run."""

    path: Path
    spec: BuildSpec
    version: str
    log: list[Operation]


def golden(folder: Path, size: tiny.Size) -> Golden:
    path = tiny.write_build(folder, size)
    spec = tiny.spec_of(folder, size)
    return Golden(path, spec, *record(spec, folder / "golden"))


@pytest.fixture(scope="session")
def least(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return golden(tmp_path_factory.mktemp("least"), "least")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return golden(tmp_path_factory.mktemp("tiny"), "tiny")


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder
