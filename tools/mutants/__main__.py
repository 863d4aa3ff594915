"""The command `python -m tools.mutants`: exit 1 where a mutant survives or no longer applies.

Here: options, copies side by side, the table of verdicts.
Elsewhere: the mutants (table.py), one trial (trial.py).
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tools.mutants.table import MUTANTS
from tools.mutants.trial import GOOD, Mutant, Trial, copy_tree, run_tests, runs_in_copy, try_mutant


def main() -> int:
    """Try the chosen mutants; 0 where every one was noticed."""
    options = _parser().parse_args()
    chosen = [mutant for mutant in MUTANTS if re.search(options.only, mutant.name)]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name:40} {mutant.file:34} {' '.join(mutant.tests)}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shardkit-mutants-") as folder:
        copies = [copy_tree(Path(folder) / f"job-{number}" / "tree") for number in range(options.jobs)]
        if reason := _not_ready(chosen, copies[0]):
            print(reason, file=sys.stderr)
            return 1
        trials = []
        for trial in try_all(chosen, copies):
            trials.append(trial)
            _show(trial, as_json=options.json)
    counts = Counter(str(trial.verdict) for trial in trials)
    figures = {"mutants": len(trials), **counts, "seconds": round(time.monotonic() - began)}
    print(json.dumps(figures) if options.json else ", ".join(f"{name} {value}" for name, value in figures.items()))
    return int(any(trial.verdict not in GOOD for trial in trials))


def try_all(mutants: Sequence[Mutant], copies: Sequence[Path]) -> Iterator[Trial]:
    """Try mutants side by side, each copy with one at a time; in the order in which they end."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant) -> Trial:
        copy = free.get()
        try:
            return try_mutant(mutant, copy)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        for future in as_completed([pool.submit(one, mutant) for mutant in mutants]):
            yield future.result()


def _not_ready(mutants: Sequence[Mutant], copy: Path) -> str:
    """Why a trial would prove nothing; empty where it would."""
    if not runs_in_copy(copy):
        return "Python imports shardkit from elsewhere than the copy; run from the project's root"
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    verdict, output = run_tests(tests, copy)
    return "" if verdict == "survived" else f"the tests must pass on the code as it is ({verdict}):\n{output}"


def _show(trial: Trial, *, as_json: bool) -> None:
    mutant = trial.mutant
    if as_json:
        shown = {"name": mutant.name, "file": mutant.file, "verdict": trial.verdict, "noticed_by": trial.noticed_by}
        print(json.dumps(shown), flush=True)
        return
    print(f"{trial.verdict:14} {trial.seconds:6.1f} s  {mutant.name:40} {trial.noticed_by}", flush=True)
    if trial.verdict not in GOOD:
        print(trial.output, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name this regular expression finds")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried side by side")
    parser.add_argument("--list", action="store_true", help="show the table, try nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a mutant, then the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
