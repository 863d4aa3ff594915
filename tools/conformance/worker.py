"""The process in which one tool runs: takes requests as lines of JSON, answers with digests of what it read.

Here: the loop, and turning samples into digests. Standard library only, as it also runs in peers' environments.
Elsewhere: what the tools do (sides), the process that asks (process.py).

`python -m tools.conformance.worker MODULE`; the answers go to the descriptor that was standard output, as libraries
print what they like to the other.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.conformance.material import digest_of, fields_of

Request = dict[str, Any]


def main(module: str) -> int:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        side = importlib.import_module(module)
        answer: dict[str, Any] = {"version": side.version(), "about": side.ABOUT, "offers": sorted(side.OFFERS)}
        answer["data"] = side.DATA
    except ImportError as error:
        answer = {"absent": str(error)}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return 0
        request = json.loads(line)
        answer = ACTIONS[request.pop("action")](side, request)


def write(side: Any, request: Request) -> Request:
    """Write shards of samples by their numbers."""
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        side.write(folder, [[(number, fields_of(number)) for number in shard] for shard in request["shards"]])
    except Exception as error:
        return {"error": _words(error)}
    return {}


def read(side: Any, request: Request) -> Request:
    """One pass in stored order: digests of what came until the end or an error."""
    return _collect(lambda: map(digest_of, side.read(request["place"], request["cache"])))


def read_tar(side: Any, request: Request) -> Request:
    """One pass over a tar that others made: every field that came as NAME=digest."""
    return _collect(lambda: (_named(key, fields) for key, fields in side.read_tar(request["place"])))


def batches(side: Any, request: Request) -> Request:
    """Batches from the beginning or a state; `take` of them or all: digests, and the state after each."""
    state = _load(request["state"]) if request["state"] else None
    states: list[str] = []

    def seen() -> Any:
        found = side.batches(request["place"], request["how"], state)
        for batch, after in itertools.islice(found, request["take"]):
            states.append(_save(after))
            yield [digest_of(fields) for fields in batch]

    return _collect(seen) | {"states": states[:: request.get("every", 1)]}


ACTIONS: dict[str, Callable[[Any, Request], Request]] = {
    "write": write,
    "read": read,
    "read_tar": read_tar,
    "batches": batches,
}


def _collect(begin: Callable[[], Any]) -> Request:
    seen: list[Any] = []
    try:
        for one in begin():
            seen.append(one)
    except (Exception, SystemExit) as error:  # energon ends the process where it finds duplicates
        return {"seen": seen, "error": _words(error)}
    return {"seen": seen}


def _named(key: str, fields: dict[str, bytes]) -> list[str]:
    return sorted(f"{key}.{name}={digest_of({'': data})}" for name, data in fields.items())


def _save(state: Any) -> str:
    return base64.b64encode(pickle.dumps(state)).decode("ascii")


def _load(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))  # noqa: S301 - written by this very program a moment before


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
