"""The benchmarks as a command: `python -m tools.bench --scale 0.1`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.bench.measure import measure
from tools.bench.table import as_json, as_markdown
from tools.bench.workloads import WORKLOADS


def main() -> int:
    """Measure, print a table (or JSON) to stdout; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), action="append", help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full workload (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown (default 3)")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    if not 0 < options.scale <= 100 or options.rounds < 1:
        parser.error("--scale is between 0 and 100, --rounds at least 1")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="shardkit-bench-") as folder:
        names = options.workload or sorted(WORKLOADS)
        figures = measure(names, options.scale, options.rounds, Path(folder))
    print(as_json(figures) if options.json else as_markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
