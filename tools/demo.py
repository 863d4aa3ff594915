"""The demo in one command on a fresh machine: `python3 tools/demo.py`.

Here: getting into the environment. Elsewhere: what the demo does (tools/demo_run).
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run the demo proper; imported late, because it needs the environment's packages."""
    from tools.demo_run import main as run_demo

    return run_demo()


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # for a file Python puts tools/ here
    from tools.bootstrap import run_inside

    run_inside("tools.demo", main)
