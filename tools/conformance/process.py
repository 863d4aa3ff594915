"""Processes in which the tools run: started, asked, given up when they hang, started again.

Here: one process a rank; which Python a tool lives in.
Elsewhere: what runs inside (worker.py), what is asked (cases.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.conformance.sides import SIDES

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-bench" / "bin" / "python"
ELSEWHERE = ("LitData", "energon")
"""They need torchvision, which the main environment must not have."""

STARTING_SECONDS = 120.0
ANSWER_SECONDS = 20.0


class Answer(NamedTuple):
    """What a process answered: digests in order, the states after batches, an error in its words, or no answer."""

    seen: list[Any]
    states: list[str]
    error: str
    died: str = ""


class Tool:
    """A tool and its processes, one for each rank of each world size asked for."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self._python = python
        self._worlds: dict[int, list[Rank]] = {}
        self._cache = tempfile.mkdtemp(prefix="conformance-cache-")
        self.about: dict[str, Any] = {}

    def start(self) -> bool:
        """Start the first process; False where the tool is not installed."""
        self.about = self._ranks(1)[0].hello
        return "absent" not in self.about

    def offers(self, feature: str) -> bool:
        """Whether the tool has a feature (sides.FEATURES)."""
        return feature in self.about["offers"]

    def ask(self, action: str, **request: Any) -> Answer:
        """One request to the process of one rank alone."""
        return self.ask_ranks(action, [request])[0]

    def ask_ranks(self, action: str, requests: list[dict[str, Any]], seconds: float = ANSWER_SECONDS) -> list[Answer]:
        """A request for each rank of a world, answered at the same time."""
        ranks = self._ranks(len(requests))
        for rank, request in zip(ranks, requests, strict=True):
            rank.send({"action": action, **request})
        answers = [rank.receive(seconds) for rank in ranks]
        if any(answer.died for answer in answers):
            self._stop(len(requests))
        return answers

    def stop(self) -> None:
        """End all processes."""
        for world in list(self._worlds):
            self._stop(world)

    def close(self) -> None:
        """End all processes and remove what they kept."""
        self.stop()
        shutil.rmtree(self._cache, ignore_errors=True)

    def _ranks(self, world: int) -> list[Rank]:
        if world not in self._worlds:
            self.stop()  # one job at a time: MosaicML's ranks find each other by names in shared memory
            port = _free_port()
            ranks = [Rank(self._python, SIDES[self.name], self._cache, (rank, world, port)) for rank in range(world)]
            self._worlds[world] = ranks
            for rank in ranks:
                rank.greet()
        return self._worlds[world]

    def _stop(self, world: int) -> None:
        for rank in self._worlds.pop(world, []):
            rank.stop()


class Rank:
    """One process of a tool."""

    def __init__(self, python: str, module: str, cache: str, place: tuple[int, int, int]) -> None:
        rank, world, port = place
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        quiet = {
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "XDG_CACHE_HOME": cache,
            "MASTER_ADDR": "127.0.0.1",
        }
        self._process = subprocess.Popen(
            [python, "-m", "tools.conformance.worker", module],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env=os.environ | quiet | {name: str(value) for name, value in ranks.items()},
        )  # fmt: skip
        self._waiting = b""
        self.hello: dict[str, Any] = {}

    def greet(self) -> None:
        """Take the process's first line: what the tool is."""
        line = self._line(STARTING_SECONDS)
        self.hello = json.loads(line) if line else {"absent": "its process did not start"}

    def send(self, request: dict[str, Any]) -> None:
        """Ask."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, seconds: float) -> Answer:
        """The answer, or that none came in time or the process died."""
        line = self._line(seconds)
        if line is None:
            return Answer([], [], "", "no answer")
        if not line:
            return Answer([], [], "", "crashed")
        answer = json.loads(line)
        return Answer(answer.get("seen", []), answer.get("states", []), answer.get("error", ""))

    def stop(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _line(self, seconds: float) -> bytes | None:
        """One line; empty where the process ended, None where none came in time."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._waiting:
                if not selector.select(seconds):
                    return None
                piece = os.read(fd, 1 << 20)
                if not piece:
                    return b""
                self._waiting += piece
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line


def python_of(name: str, peers: Path) -> str:
    """The interpreter of a tool: this one, or `peers` for those which cannot live in this one's environment."""
    return str(peers) if name in ELSEWHERE and peers.exists() else sys.executable


@contextlib.contextmanager
def tools_of(names: list[str], peers: Path = PEERS) -> Iterator[dict[str, Tool | None]]:
    """The tools by name, started; None where one is not installed. All processes end with the context."""
    tools: dict[str, Tool | None] = {}
    try:
        for name in names:
            tool = tools[name] = Tool(name, python_of(name, peers))
            if not tool.start():
                tool.close()
                tools[name] = None
        yield tools
    finally:
        for started in tools.values():
            if started is not None:
                started.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
