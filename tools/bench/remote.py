"""Decoding over HTTP with added latency beside decoding from the local disk: `python -m tools.bench.remote --json`.

Here: a server process that waits before every answer, the reader, the ratio.
Elsewhere: the workload (workloads.py), making its dataset (ours.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import Item, open_dataset, open_loader
from shardkit.read.serve import FolderHandler, FolderServer
from tools.bench import ours
from tools.bench.workloads import IMAGE_MEMBER, make_a

LATENCY_SECONDS = 0.02
WORKERS = 2
BATCH = 64


class Figure(NamedTuple):
    """One side: its name, images a second (the median and all rounds), its process's time on processors for one image
    in microseconds (the median), requests and bytes read.
    """

    name: str
    rate: float
    rounds: tuple[float, ...]
    cpu_us: float
    requests: int
    bytes: int


def measure_remote(scale: float, rounds: int, folder: Path, latency: float = LATENCY_SECONDS) -> list[Figure]:
    """Local, over HTTP, and over HTTP with a disk cache that is full, in interleaved rounds, each from opening on."""
    workload = make_a(scale)
    data, cache = folder / "data", folder / "cache"
    data.mkdir()
    ours.make(workload, data)
    count = len(workload.raw)
    with serving(data, latency) as url:
        sides: dict[str, Callable[[], tuple[int, int, int]]] = {
            "local": lambda: decode(str(data)),
            "http": lambda: decode(url),
            "http, disk cache": lambda: decode(url, cache=cache),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        busy: dict[str, list[float]] = {name: [] for name in sides}
        traffic = {}
        for side in sides.values():
            side()
        for _ in range(rounds):
            for name, side in sides.items():
                begin, began = time.perf_counter(), time.process_time()
                seen, *asked = side()
                seconds[name].append(time.perf_counter() - begin)
                busy[name].append(time.process_time() - began)
                traffic[name] = asked
                if seen != count:
                    raise RuntimeError(f"{name}: {seen} images of {count} were decoded")
    figures = []
    for name, times in seconds.items():
        rates = tuple(count / one for one in times)
        figures.append(
            Figure(name, statistics.median(rates), rates, 1e6 * statistics.median(busy[name]) / count, *traffic[name])
        )
    return figures


def ratio(figures: list[Figure]) -> float:
    """How fast reading over HTTP is, the local rate being 1."""
    rates = {figure.name: figure.rate for figure in figures}
    return rates["http"] / rates["local"]


def decode(url: str, **fields: Any) -> tuple[int, int, int]:
    """One shuffled epoch, images decoded to uint8 by two threads: how many there were; requests and bytes read."""
    dataset = open_dataset(url, **fields)
    loader = open_loader(dataset, batch_size=BATCH, tail="split", num_workers=WORKERS, decode=_pixels)
    seen = sum(len(batch) for batch in loader)
    return seen, dataset.store.requests, dataset.store.bytes_read


def _pixels(item: Item) -> Any:
    import simplejpeg

    return simplejpeg.decode_jpeg(item.members[IMAGE_MEMBER])


class SlowHandler(FolderHandler):
    """Waits as long as a network would before every answer."""

    latency = LATENCY_SECONDS

    def _answer(self, with_body: bool) -> None:
        time.sleep(self.latency)
        super()._answer(with_body)


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """A server in a process of its own; its URL."""
    command = [sys.executable, "-m", "tools.bench.remote", "--serve", str(folder), "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


def _serve(folder: Path, latency: float) -> None:
    SlowHandler.latency = latency
    server = FolderServer(folder, ("127.0.0.1", 0))
    server.RequestHandlerClass = SlowHandler
    print(server.url, flush=True)
    server.serve_forever()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.remote", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of workload A (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown (default 3)")
    parser.add_argument("--latency", type=float, default=LATENCY_SECONDS, help="seconds before each answer")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.serve, options.latency)
        return 0
    with tempfile.TemporaryDirectory(prefix="shardkit-bench-") as folder:
        figures = measure_remote(options.scale, options.rounds, Path(folder), options.latency)
    if options.json:
        rows = [figure._asdict() for figure in figures]
        print(json.dumps({"http_vs_local": ratio(figures), "latency_seconds": options.latency, "figures": rows}))
        return 0
    for figure in figures:
        rate = f"{figure.rate:>9,.0f} images/s {figure.cpu_us:>7,.0f} us of processor each"
        print(f"{figure.name:<20}{rate} {figure.requests:>7,} requests {figure.bytes:>13,} B")
    print(f"http / local {ratio(figures):.2f} at {1000 * options.latency:g} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
