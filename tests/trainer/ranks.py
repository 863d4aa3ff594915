"""Runs of several processes, as torchrun starts them, for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from trainer.spec import RunSpec


def start_ranks(spec: RunSpec, data: Path, out: Path, ranks: int, *more: str) -> subprocess.Popen[str]:
    """The command of a user: torchrun on this machine, gloo on CPU; alone without it."""
    run_file = out.with_suffix(".yaml")
    run_file.write_bytes(msgspec.yaml.encode(spec))
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launch, "-m", "trainer", "train", str(run_file)]
    command += ["--data", str(data), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_ranks(spec: RunSpec, data: Path, out: Path, ranks: int, *more: str) -> str:
    """The standard error of a run that must end well."""
    process = start_ranks(spec, data, out, ranks, *more)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return errors
