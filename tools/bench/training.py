"""What training reaches on this machine: `python -m tools.bench.training`; `just gpu` runs the GPU's tests before it.

Here: a dataset served over HTTP, the run of specs/runs/gpu-bench.yaml on it, the figures of its later steps.
Elsewhere: the run itself (trainer), how its figures are counted (trainer.figures, trainer.flops).

On a machine without a GPU the same command runs the tiny profile: that shows the path, not the speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardkit import build_dataset, load_spec
from shardkit.read.serve import serve_folder
from trainer.metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent.parent
RUN, BUILD = ROOT / "specs" / "runs" / "gpu-bench.yaml", ROOT / "specs" / "builds" / "demo.yaml"
WARM_UP = 0.25
"""The first steps compile, allocate and fill the queues: this share of them is not counted."""

LABELS = {
    "device": "device", "steps": "steps counted", "samples_per_second": "samples a second",
    "tokens_per_second": "tokens a second", "tflops": "TFLOP/s achieved", "mfu": "of the device's peak (MFU)",
    "data_wait_mean": "waiting for data, mean", "data_wait_p99": "waiting for data, 99th percentile",
    "peak_memory_gib": "peak memory, GiB", "pack_fill": "packs filled", "checkpoint_stall": "stall of a checkpoint, s",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.training", description=__doc__)
    parser.add_argument("--samples", type=int, default=400, help="samples of every source (default 400)")
    parser.add_argument("--steps", type=int, help="in place of the spec's")
    parser.add_argument("--tiny", action="store_true", help="the tiny profile, on a GPU too")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as of `trainer train`")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shardkit-training-") as folder:
        figures = measure(Path(folder), options)
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{LABELS[name]:<36}{_shown(value)}" for name, value in figures.items()))
    return 0


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Build, serve, train, and the figures of the steps after the first ones."""
    import torch

    from trainer.loop import train
    from trainer.spec import load_run

    tiny = options.tiny or not torch.cuda.is_available()
    settings = dict(one.split("=", 1) for one in options.set) | ({"steps": str(options.steps)} if options.steps else {})
    spec = load_run(RUN, settings, "tiny" if tiny else "")
    data, out = folder / "data", folder / "run"
    build_dataset(load_spec(BUILD), out=data, sample=options.samples)
    with serve_folder(data) as server:
        train(spec, server.url, out, report=_quiet)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and spec.device != "cpu" else "cpu, tiny profile"
    return {"device": device, **figures_of(read_metrics(out))}


def figures_of(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the counted steps; waiting as mean and 99th percentile; a figure that no line has is left out."""
    counted = [line for line in lines if "loss" in line][int(len(lines) * WARM_UP) :]
    figures: dict[str, Any] = {"steps": len(counted)}
    for name in ("samples_per_second", "tokens_per_second", "tflops", "mfu", "pack_fill"):
        found = [line[name] for line in counted if name in line]
        figures |= {name: statistics.median(found)} if found else {}
    waits = sorted(line["data_wait"] for line in counted)
    figures |= {"data_wait_mean": statistics.fmean(waits), "data_wait_p99": waits[int(0.99 * (len(waits) - 1))]}
    memory = [line["peak_memory_bytes"] for line in counted if "peak_memory_bytes" in line]
    stalls = [line["checkpoint_stall"] for line in lines if "checkpoint_stall" in line]
    figures |= {"peak_memory_gib": max(memory) / 2**30} if memory else {}
    return figures | ({"checkpoint_stall": max(stalls)} if stalls else {})


def _quiet(event: dict[str, Any]) -> None:
    if event["event"] == "warning":
        print(f"warning: {event['text']}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value)


if __name__ == "__main__":
    raise SystemExit(main())
