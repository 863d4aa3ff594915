"""The command `python -m tools.fuzz TARGET --seconds 60`: one target or all, figures, and inputs that broke them.

Here: options and the summary; exit 1 where a target broke, 3 where atheris was wanted and is not there.
Elsewhere: running (engine.py), targets (targets.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.fuzz.engine import as_json, fuzz, has_atheris
from tools.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Fuzz what is named; 0 where all held."""
    options = _parser().parse_args(arguments)
    engine = options.engine or ("atheris" if has_atheris() else "plain")
    if engine == "atheris" and not has_atheris():
        print("skipped: atheris is not installed (pip install -c constraints.txt atheris); --engine plain needs none")
        return 3
    failed = 0
    with tempfile.TemporaryDirectory(prefix="shardkit-fuzz-found-") as scratch:
        for name in list(TARGETS) if options.target == "all" else [options.target]:
            folder = Path(options.keep or scratch) / name
            outcome = fuzz(
                name, seconds=options.seconds, runs=options.runs, seed=options.seed, folder=folder, engine=engine
            )
            failed += bool(outcome.failure)
            if options.json:
                print(as_json(outcome), flush=True)
            else:
                rate = outcome.executions / max(outcome.seconds, 0.1)
                held = f"BROKE: {outcome.failure}" if outcome.failure else "held"
                figures = f"{outcome.executions:,} executions in {outcome.seconds} s ({rate:,.0f}/s, {engine})"
                print(f"{name}: {figures}: {held}", flush=True)
    return int(failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="executions of each target at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "plain"), help="atheris where it is installed")
    parser.add_argument("--keep", help="folder for the corpus and for inputs that broke a target")
    parser.add_argument("--json", action="store_true", help="a JSON object for each target")
    return parser


if __name__ == "__main__":
    sys.exit(main())
