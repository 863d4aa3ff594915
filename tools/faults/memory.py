"""Peak memory of a build's process tree, small and large, with a consumer that is slowed down.

Here: watching a tree until it ends, the spec of rows of a kilobyte.
Elsewhere: processes (tree.py), the hook that slows a phase (shardkit.build.phase).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from shardkit.build.phase import VARIABLE
from tools.faults.tree import Tree, peak_memory

POLL_SECONDS = 0.02
BUILD_SECONDS = 3600.0
STAGING_SECONDS = 0.0001
"""How long each sample waits before it is put into its shard: several times what making it takes."""

BUDGET_BYTES = 1 << 29
WITHIN = 1.10
"""How much more a build ten times as long may take."""


class Peak(NamedTuple):
    """One build that was watched."""

    samples: int
    workers: int
    bytes: int
    seconds: float


def text_spec(samples: int) -> dict[str, Any]:
    """Generated text in two lanes, shards of 500 samples."""
    source: dict[str, Any] = {
        "kind": "generated",
        "name": "notes",
        "generator": "notes",
        "count": samples,
        "partitions": 2,
    }
    source |= {"parameters": {"characters": 1000}}
    limits = {"memory_bytes": BUDGET_BYTES, "shard_samples": 500}
    text = {**source, "normalizer": "question_answer", "codec": "tar.zst", "licence": "cc0-1.0"}
    return {"name": "memory", "limits": limits, "sources": [text]}


def measure(samples: int, workers: int, folder: Path) -> Peak:
    """Build `samples` with a slow consumer; the highest sum of the processes' own peaks of resident memory."""
    folder.mkdir(parents=True)
    spec = folder / "spec.yaml"
    spec.write_text(json.dumps(text_spec(samples)))
    command = ["shardkit", "build", str(spec), "--out", str(folder / "dataset"), "--workers", str(workers), "--json"]
    began = time.monotonic()
    tree = Tree(command, folder / "run", {VARIABLE: json.dumps({"seconds": {"staging": STAGING_SECONDS}})})
    peaks: dict[int, int] = {}
    while tree.running():
        for pid, peak in peak_memory(tree.pid).items():
            peaks[pid] = max(peaks.get(pid, 0), peak)
        time.sleep(POLL_SECONDS)
    ended = tree.wait(BUILD_SECONDS)
    if ended.code:
        raise RuntimeError(f"the build that is watched ended with {ended.code}: {ended.stderr.strip()[-500:]}")
    return Peak(samples, workers, sum(peaks.values()), time.monotonic() - began)


def problems_of_peaks(small: Peak, large: Peak) -> list[str]:
    """What is wrong with two peaks of the same number of workers."""
    problems = []
    if large.bytes > WITHIN * small.bytes:
        problems.append(f"{large.samples} samples took {large.bytes} bytes, {small.samples} took {small.bytes}")
    if large.bytes > BUDGET_BYTES:
        problems.append(f"{large.samples} samples took {large.bytes} bytes, the budget is {BUDGET_BYTES}")
    return problems
