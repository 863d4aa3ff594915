"""The demo: build four modalities, kill and resume, verify, serve, train from the URL, show where to look.

Here: the order of the steps and what is printed; every step is a command that a user could type.
Elsewhere: making the virtual environment (bootstrap.py), the commands themselves (shardkit, trainer).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardkit import Dataset, ShardkitError, open_dataset
from shardkit.read.serve import serve_folder
from shardkit.report.page import write_report

BUILD_SPEC = "specs/builds/demo.yaml"
RUN_SPEC = "specs/runs/demo.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; gives the exit code."""
    options = _options(arguments)
    started = time.monotonic()
    root: Path = options.out
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    try:
        version = build_whole(root / "reference", options.sample)
        resumed = build_killed(root / "dataset", options.sample)
        dataset = check_same(version, resumed, root)
        with serve_folder(root / "dataset") as server:
            train(server.url, root / "run", options.steps)
        show(dataset, root, time.monotonic() - started)
    except subprocess.CalledProcessError as error:
        print(f"demo: `{' '.join(map(str, error.cmd))}` ended with exit code {error.returncode}", file=sys.stderr)
        return 1
    except ShardkitError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def build_whole(folder: Path, sample: str) -> str:
    """Build in one go; gives the version's digest."""
    _title("1. Build: code, screenshots, sound and video stream into shards")
    _run("shardkit", "build", BUILD_SPEC, "--sample", sample, "--out", str(folder), "--workers", "1")
    return open_dataset(str(folder)).version


def build_killed(folder: Path, sample: str) -> str:
    """Build the same with two workers, kill all its processes half-way, run it again; gives the version's digest."""
    _title("2. The same build again, killed (SIGKILL) half-way with all its processes, then resumed")
    command = _command("shardkit", "build", BUILD_SPEC, "--sample", sample, "--out", str(folder), "--workers", "2")
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(folder.glob(".build/lanes/*/*.ckpt")):
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    commits = len(list(folder.glob(".build/lanes/*/*.ckpt")))
    done = "already published" if (folder / "manifest.json").exists() else "nothing is published"
    print(f"killed after {commits} {'commit' if commits == 1 else 'commits'} of finished shards; {done}\n")
    _run("shardkit", "build", BUILD_SPEC, "--sample", sample, "--out", str(folder), "--workers", "2")
    return open_dataset(str(folder)).version


def check_same(version: str, resumed: str, root: Path) -> Dataset:
    """Compare the two versions, then verify the resumed dataset down to its pixels."""
    _title("3. The same bytes?")
    print(f"in one go          {version}\nkilled and resumed {resumed}")
    if version != resumed:
        raise ShardkitError("the resumed build differs from the uninterrupted one; please report this")
    print("identical")
    shutil.rmtree(root / "reference")
    _run("shardkit", "verify", str(root / "dataset"), "--deep")
    return open_dataset(str(root / "dataset"))


def train(url: str, folder: Path, steps: int | None) -> None:
    """Train the demo run from the dataset's URL."""
    _title(f"4. Train a model with eyes and ears from {url}")
    more = ["--steps", str(steps)] if steps else []
    _run("trainer", "train", RUN_SPEC, "--data", url, "--out", str(folder), *more)


def show(dataset: Dataset, root: Path, seconds: float) -> None:
    """Write the page and print where everything lies."""
    run = root / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first, last = _mean(lines[:5]), _mean(lines[-5:])
    figures = {
        "steps": str(lines[-1]["step"]),
        "loss, first 5 steps": f"{first:.3f}",
        "loss, last 5 steps": f"{last:.3f}",
        "tokens/s": f"{lines[-1]['tokens_per_second']:,.0f}",
    }
    page = write_report(dataset, root / "report.html", training={"plot": run / "loss.png", "figures": figures})
    _title("5. Where to look")
    print(f"loss fell from {first:.3f} to {last:.3f} in {lines[-1]['step']} steps; the whole demo took {seconds:.0f} s")
    for medium in ("image", "audio"):
        print_margin(run, medium)
    print(f"dataset   {root / 'dataset'}  (version {dataset.version[:16]}…, {len(dataset)} samples)")
    print(f"report    {page}")
    print(f"loss plot {run / 'loss.png'}")
    print(f"metrics   {run / 'metrics.jsonl'}")


def print_margin(run: Path, medium: str) -> None:
    """What held-out answers cost with their own media and with those of other samples, where both were measured."""
    path = run / "held_out.json"  # not there where no sample was held out
    found = json.loads(path.read_bytes()) if path.exists() else {}
    own, other = (found.get(when, {}).get("by_modality", {}).get(medium) for when in ("after", f"shuffled_{medium}"))
    if own is not None and other is not None:
        name = {"image": "images", "audio": "sounds"}[medium]
        print(f"held-out loss about {name} {own:.3f}; with the {name} of other samples {other:.3f}")


def _mean(lines: Sequence[dict[str, Any]]) -> float:
    losses = [line["loss"] for line in lines if line["loss"] is not None]  # null where it was not finite
    return sum(losses) / len(losses) if losses else float("nan")


def _title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def _command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", program, *arguments]


def _run(program: str, *arguments: str) -> None:
    print(f"$ {program} {' '.join(arguments)}", flush=True)
    subprocess.run(_command(program, *arguments), check=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="Build, kill, resume, verify, serve, train, look.")
    parser.add_argument("--sample", default="default", help="samples from every source (default: some dozens of each)")
    parser.add_argument("--steps", type=int, help="training steps (default: the run spec's)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything the demo makes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
