"""The command `python -m tools.soak --minutes 10`: kills and resumes for so long, figures, exit 1 where any was wrong.

Here: options and the summary.
Elsewhere: the soak (run.py).
"""

from __future__ import annotations

import argparse
import sys

from tools.faults.runner import scratch_folder
from tools.soak.run import Soak


def main(arguments: list[str] | None = None) -> int:
    """Soak; 0 where everything held."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=0, help="rounds at most; 0: no bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    options = parser.parse_args(arguments)
    with scratch_folder() as folder:
        figures = Soak(folder, options.seed).run(60 * options.minutes, options.rounds)
    if options.json:
        print(figures.as_json())
    else:
        print("soak: " + ", ".join(f"{name} {value}" for name, value in figures._asdict().items() if name != "wrong"))
        for problem in figures.wrong[:10]:
            print(f"WRONG: {problem}")
    return int(bool(figures.wrong))


if __name__ == "__main__":
    sys.exit(main())
