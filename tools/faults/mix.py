"""A mix of five sources for random kills: real files where they are at hand, made ones where not, and generators.

Here: its spec, and the quotas that every build of it must meet exactly.
Elsewhere: killing (kill.py), the command (__main__.py).

Every way of choosing rows takes part: the first ones, random ones of a plain and of a compressed file and of a folder,
the best of strata, a source that is short of its quota, and others that make up for it, on several lanes.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from shardkit.spec import BuildSpec, convert_spec
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
TOTAL = 90
RATIOS = {"questions": 0.3, "programs": 0.2, "documents": 0.3, "notes": 0.15, "pages": 0.05}
DOCUMENTS = 20
"""So many there are, of a quota of 27: the others make up for seven."""

QUOTAS = {"questions": 27 + 3, "programs": 18 + 2, "documents": DOCUMENTS, "notes": 14 + 2, "pages": 4}
"""Samples of each source: the shares of 90 by largest remainder, and what is lent in the ratio of the others."""


def write_mix(folder: Path, data: Path = REAL) -> Path:
    """Write the spec into `folder`, over the files in `data` or, where there are none, over made ones; its path."""
    inputs = data if data.is_dir() else _make_inputs(folder / "input")
    path = folder / "mix.yaml"
    path.write_text(json.dumps(raw_mix(inputs), indent=1), encoding="utf-8")
    return path


def mix_of(path: Path) -> BuildSpec:
    """The spec as a struct, for builds in this process."""
    return convert_spec(json.loads(path.read_text(encoding="utf-8")), BuildSpec, str(path))


def raw_mix(inputs: Path) -> dict[str, Any]:
    """The spec over a folder laid out as the real files are."""
    chosen = {"sampling": {"method": "random"}}
    strata = {"sampling": {"method": "stratified", "by": "question", "shares": "proportional", "scan": 60}}
    sources: list[dict[str, Any]] = [
        {
            "kind": "jsonl",
            "path": f"{inputs}/text/gsm8k.jsonl",
            "normalizer": "question_answer",
            "partitions": 2,
            **chosen,
        },
        {
            "kind": "jsonl",
            "path": f"{inputs}/text/humaneval.jsonl.gz",
            "normalizer": "prompt_completion",
            "columns": {"prompt": "prompt", "completion": "canonical_solution"},
            **chosen,
        },
        {"kind": "files", "path": f"{inputs}/documents", "include": ["*.md"], "normalizer": "plain_text", **chosen},
        {"kind": "generated", "generator": "notes", "count": 400, "normalizer": "question_answer", **strata},
        {"kind": "generated", "generator": "ui_mockup", "count": 200, "normalizer": "question_answer"},
    ]
    return {
        "name": "mix",
        "seed": 7,
        "total": TOTAL,
        "borrow": True,
        "limits": {"shard_samples": 6, "block_samples": 2, "memory_bytes": 1 << 28},
        "sources": [{"name": name, "ratio": ratio, **source}
                    for (name, ratio), source in zip(RATIOS.items(), sources, strict=True)],
    }  # fmt: skip


def problems_of_quotas(root: Path) -> list[str]:
    """Where a finished mix has other numbers of samples than its quotas."""
    _, manifest = read_manifest(open_store(root))
    found = manifest.totals.by_source
    return [f"{name}: {found.get(name, 0)} samples, wanted {quota}"
            for name, quota in QUOTAS.items() if found.get(name, 0) != quota]  # fmt: skip


def _make_inputs(folder: Path) -> Path:
    """Files like the real ones: questions, programs of which some are refused, exactly DOCUMENTS documents."""
    (folder / "text").mkdir(parents=True)
    (folder / "documents").mkdir()
    asked = [{"question": f"What is {at} times {at}?", "answer": str(at * at)} for at in range(700)]
    (folder / "text" / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    programs = [json.dumps({"prompt": f"def f{at}():", "canonical_solution": f"    return {at}"}) for at in range(150)]
    programs[::7] = ["not json"] * len(programs[::7])
    (folder / "text" / "humaneval.jsonl.gz").write_bytes(gzip.compress("\n".join(programs).encode(), mtime=0))
    for at in range(DOCUMENTS):
        (folder / "documents" / f"{at}.md").write_text(f"# Document {at}\n\n" + "A line.\n" * at, encoding="utf-8")
    return folder
