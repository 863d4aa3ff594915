"""The command `python -m tools.conformance`: the table of cases, or resumes by the thousand.

Here: options, progress, the summary; exit 1 where ours was wrong anywhere.
Elsewhere: the cases and resumes themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tools.conformance import resume
from tools.conformance.cases import CASES, run_case
from tools.conformance.process import PEERS, tools_of
from tools.conformance.sides import SIDES
from tools.conformance.table import as_json, as_markdown
from tools.conformance.verdict import Cell
from tools.faults.runner import scratch_folder

SHOWN_PROBLEMS = 10


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 0 where nothing of ours was wrong."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def run_table(options: argparse.Namespace) -> int:
    """Every case on every tool that is installed."""
    names = options.tools or list(SIDES)
    table: dict[str, dict[str, Cell]] = {}
    with tools_of(names, options.peers) as tools:
        for case in CASES:
            if options.cases and not any(word in case.name for word in options.cases):
                continue
            for name, tool in tools.items():
                if tool is not None:
                    began = time.monotonic()
                    table.setdefault(case.name, {})[name] = cell = run_case(case, tool, options.trials, options.seconds)
                    took = time.monotonic() - began
                    print(f"{case.name} · {name}: {cell} [{took:.1f} s] {cell.words}", file=sys.stderr, flush=True)
        print(as_json(table, tools) if options.json else as_markdown(table, tools))
    return int(any(not cells["shardkit"].good for cells in table.values() if "shardkit" in cells))


def run_resumes(options: argparse.Namespace) -> int:
    """Random resumes against an oracle."""
    began = time.monotonic()
    problems: list[str] = []
    totals: Counter[str] = Counter()
    with scratch_folder() as folder:
        for result in _watched(resume.try_cases(options.cases, options.seed, folder), options.cases, problems):
            totals["cases"] += 1
            totals[result.kind] += 1
            totals["steps"] += result.steps
            totals["resumes"] += result.resumes
    figures: dict[str, float] = {**totals, "mismatches": len(problems), "seed": options.seed}
    figures["seconds"] = round(time.monotonic() - began, 1)
    if options.json:
        print(json.dumps({"resume": figures, "problems": problems[:SHOWN_PROBLEMS]}))
    else:
        print("resume: " + ", ".join(f"{name} {value:,}" for name, value in figures.items()))
    return int(bool(problems))


def _watched(results: Iterator[resume.Result], total: int, problems: list[str]) -> Iterator[resume.Result]:
    """The results, with a line of progress now and then and every problem as it comes."""
    shown = time.monotonic()
    for number, result in enumerate(results, 1):
        problems.extend(result.problems)
        for problem in result.problems:
            print(f"WRONG: {problem}", file=sys.stderr, flush=True)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{number} of {total}, {len(problems)} wrong", file=sys.stderr, flush=True)
        yield result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    parser.set_defaults(run=run_table)
    parser.add_argument("--tools", nargs="+", choices=SIDES, help="only these")
    parser.add_argument("--cases", nargs="+", help="only cases whose names hold one of these words")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the Python in which LitData and energon are")
    parser.add_argument("--trials", type=int, default=0, help="trials of a cell at most; 0: all there are")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of a cell at most; 0: no limit")
    parser.add_argument("--json", action="store_true", help="the table as one JSON object")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown, which is the default")
    commands = parser.add_subparsers(dest="command", metavar="resume")
    resumes = commands.add_parser("resume", help="random resumes against an oracle")
    resumes.set_defaults(run=run_resumes)
    resumes.add_argument("--cases", type=int, default=10_000)
    resumes.add_argument("--seed", type=int, default=0)
    resumes.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
