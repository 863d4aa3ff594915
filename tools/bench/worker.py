"""One measurement in a process of its own: `python -m tools.bench.worker '{…}'` prints one JSON object.

Here: loading the workload, warming up, timing one piece of work.
Elsewhere: who does the work (sides.py), in which order processes run (measure.py).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.bench.workloads import Workload, load


def main() -> None:
    """Do what the argument says: `work` (module:function) on `workload` or `folder`."""
    asked = json.loads(sys.argv[1])
    work, folder = function(asked["work"]), Path(asked["folder"])
    if asked["kind"] == "write":
        answer = write(work, load(Path(asked["workload"])), folder, records=asked["records"])
    else:
        answer = read(work, folder)
    print(json.dumps(answer))


def function(name: str) -> Callable[..., Any]:
    """`module:function` of tools.bench."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"tools.bench.{module}"), attribute)
    return found


def write(
    work: Callable[[Workload, Path], None], workload: Workload, folder: Path, *, records: bool
) -> dict[str, float]:
    """Write a few samples, then all of them; only the second is timed. `records`: they are decoded before."""
    work(workload.few(), fresh(folder))
    if records:
        _ = workload.prepared
    fresh(folder)
    os.sync()
    gc.collect()
    gc.freeze()  # no side's garbage collection walks through the workload
    begin = time.perf_counter()
    work(workload, folder)
    return {"seconds": time.perf_counter() - begin, "samples": len(workload.raw), "bytes": workload.size_bytes}


def read(work: Callable[[Path], tuple[int, int]], folder: Path) -> dict[str, float]:
    """One epoch from opening on; what it needs is imported before."""
    warm = getattr(sys.modules[work.__module__], f"import_{work.__name__}", None)
    if warm is not None:
        warm()
    gc.collect()
    begin = time.perf_counter()
    samples, size = work(folder)
    return {"seconds": time.perf_counter() - begin, "samples": samples, "bytes": size}


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
