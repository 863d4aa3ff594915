"""Running the command line in this process, and small specs for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from shardkit.cli.main import main


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]
"""`shardkit("build", path, …)`: runs a command and returns how it ended; a traceback fails the test."""


@pytest.fixture
def shardkit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["shardkit", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Outcome(code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[str], Path]:
    """Write a spec with one source, given as the inside of a YAML mapping."""

    def write(source: str, head: str = "") -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(f"name: tiny\n{head}\nsources:\n  - {{name: only, {source}}}\n")
        return path

    return write
