"""What the demo does once the environment is there."""

from __future__ import annotations

import sys


def main() -> int:
    """Say that the demo is not written yet; fails, so that nobody takes this for a demo."""
    print("the demo is not written yet", file=sys.stderr)
    return 1
