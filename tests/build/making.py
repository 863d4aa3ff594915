"""Tiny sources and specs for the tests of the build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from shardkit.build.run import build
from shardkit.spec import BuildSpec, convert_spec
from shardkit.store import fs
from shardkit.store.faults import Faults, Setting


def notes(name: str = "notes", count: int = 60, **fields: Any) -> dict[str, Any]:
    """A source of generated text."""
    return {
        "kind": "generated",
        "name": name,
        "generator": "notes",
        "count": count,
        "normalizer": "question_answer",
        "seed": sum(name.encode()),  # other names, other samples
        **fields,
    }


def questions(path: Path, name: str = "questions", **fields: Any) -> dict[str, Any]:
    """A source of JSON lines with question and answer."""
    return {"kind": "jsonl", "name": name, "path": str(path), "normalizer": "question_answer", **fields}


def spec_of(*sources: dict[str, Any], **fields: Any) -> BuildSpec:
    """A build spec with small shards."""
    limits = {"shard_samples": 10, "block_samples": 4, **fields.pop("limits", {})}
    return convert_spec({"name": "tiny", "sources": list(sources), "limits": limits, **fields}, BuildSpec, "test")


def write_questions(path: Path, numbers: range | list[int], *, bad: dict[int, str] | None = None) -> Path:
    """A jsonl file with a line per number; `bad` replaces lines, by position in the file."""
    lines = [json.dumps({"question": f"What is {number} + 1?", "answer": f"{number + 1}"}) for number in numbers]
    for at, line in (bad or {}).items():
        lines[at] = line
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def save_spec(path: Path, spec: BuildSpec) -> Path:
    """The spec as a file that the command reads (JSON is YAML)."""
    path.write_bytes(msgspec.json.encode(spec))
    return path


def command(*arguments: str | Path) -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-m", "shardkit", *map(str, arguments)]


def run_command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def build_with_faults(spec: BuildSpec, out: Path, setting: Setting, **options: Any) -> int:
    """Build in a forked child, in one thread, with faults; its wait status. A child that is killed dies for real."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            fs.observe(Faults(setting))
            build(spec, out=out, workers=0, **options)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def was_killed(status: int) -> bool:
    """Whether a wait status tells of SIGKILL."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
