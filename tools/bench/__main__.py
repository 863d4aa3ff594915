"""The benchmarks as a command: `python -m tools.bench --peers --json`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import tools.bootstrap as bootstrap
from tools.bench.measure import Figure, Plan, installed, measure, say
from tools.bench.remote import measure_remote
from tools.bench.sides import TASKS
from tools.bench.table import as_json, as_markdown
from tools.bench.workloads import WORKLOADS


def main() -> int:
    """Measure, print tables (or JSON) to stdout; progress goes to stderr."""
    options = _options()
    if options.peers:
        bootstrap.ensure_peers()
    plan = Plan(
        tuple(options.workload or sorted(WORKLOADS)),
        tuple(task for task in TASKS if not options.task or task in options.task),
        installed(options.peers),
        options.scale,
        options.rounds,
    )
    say(f"sides: {', '.join(side.name for side in plan.sides)}")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="shardkit-bench-") as folder:
        figures = measure(plan, Path(folder))
        if "A" in plan.workloads and (not options.task or "http" in options.task):
            figures += _over_http(plan, Path(folder))
    print(as_json(figures) if options.json else as_markdown(figures, padded=not options.markdown))
    return 0


def _over_http(plan: Plan, folder: Path) -> list[Figure]:
    """Decoding over HTTP on loopback with 20 ms of added latency, beside the local disk."""
    say("decoding over HTTP with 20 ms of latency, beside the local disk")
    target = folder / "remote"
    target.mkdir()
    found = measure_remote(plan.scale, plan.rounds, target)
    return [Figure("A", "http", one.name, one.rate, one.rounds, f"{one.requests:,} requests") for one in found]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="the peers too; installs those that are missing")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), action="append", help="default: all")
    parser.add_argument("--task", choices=(*TASKS, "http"), action="append", help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full workloads (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown (default 3)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--markdown", action="store_true", help="Markdown as README shows it")
    options = parser.parse_args()
    if not 0 < options.scale <= 100 or options.rounds < 1:
        parser.error("--scale is between 0 and 100, --rounds at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
