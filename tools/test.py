"""Everything that must hold, in one command on a fresh machine: `python3 tools/test.py`.

Here: lint, format, strict types and tests, one after the other, with a summary. Other arguments go to pytest:
`python3 tools/test.py --only-tests tests/store -k repair`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Check(NamedTuple):
    """A command that must succeed."""

    name: str
    command: tuple[str, ...]


class Outcome(NamedTuple):
    """How a check ended."""

    name: str
    code: int
    seconds: float


CHECKS = (
    Check("lint", ("ruff", "check", ".")),
    Check("format", ("ruff", "format", "--check", ".")),
    Check("types", ("mypy",)),
    Check("tests", ("pytest", "-n", str(min(4, os.cpu_count() or 1)))),
)


def main() -> int:
    """Run the chosen checks, all of them even when one fails; return 1 where any failed."""
    chosen, for_pytest = parse(sys.argv[1:])
    outcomes = [run(check, for_pytest) for check in CHECKS if check.name in chosen]
    print_summary(outcomes)
    return int(any(outcome.code for outcome in outcomes))


def parse(arguments: list[str]) -> tuple[set[str], list[str]]:
    """Return the names of the checks to run, and the arguments meant for pytest."""
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(description="lint, format, types, tests", epilog="other arguments go to pytest")
    parser.add_argument("--only", action="append", choices=names, help="run only this check; may be repeated")
    parser.add_argument("--only-tests", action="store_true", help="the same as --only tests")
    parser.add_argument("--quick", action="store_true", help="leave out tests marked slow")
    options, for_pytest = parser.parse_known_args(arguments)
    chosen = {"tests"} if options.only_tests else set(options.only or names)
    return chosen, [*(["-m", "not slow"] if options.quick else []), *for_pytest]


def run(check: Check, for_pytest: list[str]) -> Outcome:
    """Run one check from the root of the tree."""
    command = [sys.executable, "-m", *check.command, *(for_pytest if check.name == "tests" else [])]
    print(f"== {check.name}: {' '.join(command[2:])}", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=quiet_environment()).returncode
    return Outcome(check.name, code, time.monotonic() - started)


def quiet_environment() -> dict[str, str]:
    """Keep parallel tests from fighting over cores, and every test off the network's hubs."""
    return {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}


def print_summary(outcomes: list[Outcome]) -> None:
    """Print one line a check."""
    print("== summary")
    for name, code, seconds in outcomes:
        print(f"{name:8} {'ok' if code == 0 else f'FAILED ({code})':12} {seconds:7.1f} s")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # for a file Python puts tools/ here
    from tools.bootstrap import run_inside

    run_inside("tools.test", main)
