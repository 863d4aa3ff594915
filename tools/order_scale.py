"""Whether reading holds at a billion samples: opening, locating, read-ahead, bytes fetched, from a synthetic manifest.

Here: `python -m tools.order_scale [--json]`: makes the manifest with the store's own writer, opens it in a process of
its own, counts what ranks would fetch.
Elsewhere: the order itself (shardkit.read.order), speed on real data (tools.bench).

No shard exists: what is fetched is counted, not read. For every rank exactly: the blocks that its lanes touch, from the
lanes' ends alone. For some ranks (`--ranks-walked`) sample by sample, with a cache of index heads like the reader's:
heads asked for, blocks held at once; their mean stands for all ranks. A page is asked for with each block.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import blake3
import msgspec
import numpy as np

from shardkit.read.ahead import AHEAD_BYTES
from shardkit.read.cache import ByteCache
from shardkit.read.order import EpochOrder, LiveSamples
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import Extent, OrderState, first_state
from shardkit.read.table import HEAD_BYTES, PAGE_REF_BYTES
from shardkit.store.index import IndexHead, IndexPage, PageRef, encode_head
from shardkit.store.layout import FileRef, Manifest, PlanRecord, Pointer, ShardEntry, Sums, Totals, version_path
from shardkit.store.manifest import encode_pointer, encode_version

BLOCK = 16
MEMBERS = 2
SAMPLE_BYTES = (16_384, 32_768, 51_200, 102_400)
"""Sizes for which the share of the index is shown, too: it falls as samples grow."""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The dataset that is simulated and who reads it; `samples` a shard vary by 10 around the mean."""

    samples: int = 1_000_000_000
    shards: int = 100_000
    sample_bytes: int = 51_200
    ranks: int = 1024
    batch_size: int = 1
    lanes: int = 1024
    ranks_walked: int = 4
    positions: int = 2000

    def shard_sizes(self) -> list[int]:
        """Samples of each shard: 21 different numbers around the mean, so that there are tails of all lengths."""
        mean = self.samples // self.shards
        sizes = [max(0, mean - 10 + shard % 21) for shard in range(self.shards)]
        sizes[-1] += self.samples - sum(sizes)
        return sizes


def simulate(scale: Scale) -> dict[str, Any]:
    """All figures of a scale."""
    figures: dict[str, Any] = {"scale": msgspec.to_builtins(scale)}
    with tempfile.TemporaryDirectory(prefix="order-scale-") as folder:
        figures["manifest"] = write_manifest(Path(folder), scale)
        figures["opening"] = measure_opening(folder, scale)
    order, state = make_order(scale)
    figures["locating"] = measure_locating(order, scale)
    figures["reading"] = count_reading(order, state, scale)
    return figures


def write_manifest(root: Path, scale: Scale) -> dict[str, Any]:
    """A dataset in `root` whose manifest names shards that do not exist."""
    sizes = scale.shard_sizes()
    head_bytes, page_bytes = index_bytes(max(sizes))
    entries = tuple(_entry(number, size, head_bytes, page_bytes, scale) for number, size in enumerate(sizes))
    manifest = Manifest(
        name="scale",
        block_samples=BLOCK,
        plan=PlanRecord(name="scale", seed=0, duplicates="keep", limits={}, sources=(), lanes=()),
        plan_digest=_hex("plan"),
        totals=Totals(samples=sum(sizes), shards=len(sizes), bytes=sum(entry.shard.bytes for entry in entries)),
        shards=entries,
    )
    digest, raw_bytes, data = encode_version(manifest)
    (root / "versions").mkdir()
    (root / version_path(digest)).write_bytes(data)
    (root / "manifest.json").write_bytes(encode_pointer(Pointer(version=digest, bytes=raw_bytes)))
    return {"file_bytes": len(data), "json_bytes": raw_bytes, "samples": sum(sizes)}


def _entry(number: int, size: int, head_bytes: int, page_bytes: int, scale: Scale) -> ShardEntry:
    source = f"source-{number % 20}"
    tar_bytes = size * scale.sample_bytes + 1024
    return ShardEntry(
        shard=FileRef(digest=_hex(f"shard {number}"), bytes=tar_bytes),
        codec="tar",
        tar_bytes=tar_bytes,
        index=FileRef(digest=_hex(f"index {number}"), bytes=head_bytes + page_bytes * -(-size // BLOCK)),
        head_bytes=head_bytes,
        head_digest=_hex(f"head {number}")[:32],
        samples=size,
        block_samples=BLOCK,
        source=source,
        lane=f"{source}-000-{_hex(source)[:12]}",
        ordinal=number // 20,
        licences=("CC-BY-4.0", "MIT"),
        modalities={"image+text": size - size // 8, "text": size // 8},
        sums=Sums(text_characters=700 * size, images=size - size // 8, pixels=size << 18),
    )


def index_bytes(samples: int) -> tuple[int, int]:
    """Bytes of a real index's head for a shard of so many samples, and of one page of a block of two members each."""
    counts = {
        "keys": 16, "offsets": 8, "sizes": 8, "hashes": 8, "text_characters": 4, "images": 2, "pixels": 8,
        "audio_ms": 4, "frames": 4, "sources": 2, "categories": 2, "modality_sets": 2, "licences": 2,
        "member_counts": 2,
        "member_names": 2 * MEMBERS, "member_offsets": 8 * MEMBERS, "member_sizes": 8 * MEMBERS,
        "member_digests": 16 * MEMBERS,
    }  # fmt: skip
    page = IndexPage(**{name: bytes(BLOCK * width) for name, width in counts.items()})
    page_bytes = len(msgspec.msgpack.encode(page))
    at = 300_000_000  # numbers as long as they are in the middle of a shard
    ref = PageRef(page_bytes, bytes(16), BLOCK, at, 800_000, at, 800_000)
    head = IndexHead(
        shard="0" * 64,
        codec="tar",
        samples=samples,
        block_samples=BLOCK,
        tar_bytes=at,
        sources=("source-00",),
        categories=("category", "another"),
        modality_sets=("image+text", "text"),
        licences=("CC-BY-4.0", "MIT"),
        member_names=("json", "image0.jpg"),
        pages=(ref,) * -(-samples // BLOCK),
    )
    return len(encode_head(head)), page_bytes


OPENING = """
import json, sys, time
begun = time.perf_counter()
from shardkit import open_dataset, open_loader
imported = time.perf_counter()
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024, 1)

before = peak()
dataset = open_dataset(sys.argv[1])
loader = open_loader(dataset, batch_size=int(sys.argv[2]), world_size=int(sys.argv[3]), rank=int(sys.argv[3]) // 2)
loader._stream._order(0)
print(json.dumps({
    "seconds": round(time.perf_counter() - imported, 3), "import_seconds": round(imported - begun, 3),
    "peak_mb": peak(), "peak_mb_before": before, "samples": len(dataset), "steps": len(loader),
}))
"""


def measure_opening(folder: str, scale: Scale) -> dict[str, Any]:
    """Opening dataset, loader and first epoch's order in a fresh process: seconds, and its whole peak memory."""
    command = [sys.executable, "-c", OPENING, folder, str(scale.batch_size), str(scale.ranks)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_order(scale: Scale) -> tuple[EpochOrder, OrderState]:
    """The order of the first epoch, and the state that it follows from."""
    live = LiveSamples(scale.shard_sizes(), BLOCK)
    extent = Extent(samples=live.samples, block=BLOCK, tar_bytes=live.samples * scale.sample_bytes, stored=live.samples)
    spec = LoaderSpec(batch_size=scale.batch_size, world_size=scale.ranks, lanes=scale.lanes)
    state = first_state("0" * 64, [extent], spec)
    return EpochOrder(live, seed=0, epoch=0, lanes=state.lanes, window=state.window), state


def measure_locating(order: EpochOrder, scale: Scale) -> dict[str, Any]:
    """Milliseconds to find one sample; each position three times, its best time (others' work is not ours)."""
    chosen = np.random.default_rng(0).integers(0, len(order), scale.positions).tolist()
    best = []
    for position in chosen:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            order.locate(position)
            times.append(time.perf_counter() - begun)
        best.append(1000 * min(times))
    positions = np.array(chosen)
    begun = time.perf_counter()
    order.locate_many(positions)
    many = 1e6 * (time.perf_counter() - begun) / len(positions)
    return {
        "positions": len(best),
        "median_ms": round(float(np.median(best)), 4),
        "worst_ms": round(max(best), 4),
        "many_us_a_sample": round(many, 3),
    }


def count_reading(order: EpochOrder, state: OrderState, scale: Scale) -> dict[str, Any]:
    """Bytes that all ranks fetch in one epoch, and what a rank holds at most."""
    head_bytes, page_bytes = index_bytes(max(scale.shard_sizes()))
    blocks, data_bytes = count_blocks(order, scale.sample_bytes)
    step = max(1, scale.ranks // scale.ranks_walked)
    walks = [walk_rank(order, rank, scale) for rank in range(0, scale.ranks, step)]
    heads_a_block = sum(walk["heads"] for walk in walks) / sum(walk["blocks"] for walk in walks)
    index = round(blocks * (page_bytes + heads_a_block * head_bytes))
    held = max(walk["held_samples"] for walk in walks) * scale.sample_bytes
    dataset_bytes = len(order) * scale.sample_bytes
    budget = LoaderSpec().read_ahead_bytes
    return {
        "lanes_are_a_multiple_of_the_global_batch": state.lanes % (scale.ranks * scale.batch_size) == 0,
        "window": state.window,
        "blocks_fetched": blocks,
        "heads_fetched_a_block": round(heads_a_block, 4),
        "head_bytes": head_bytes,
        "page_bytes": page_bytes,
        "ranks_walked": len(walks),
        "data_over_dataset": round(data_bytes / dataset_bytes, 5),
        "fetched_over_dataset": round((data_bytes + index) / dataset_bytes, 5),
        "by_sample_bytes": {
            size: round(data_bytes / dataset_bytes + index / (len(order) * size), 4) for size in SAMPLE_BYTES
        },
        "open_blocks_bytes_a_rank": held,
        "read_ahead_bytes_a_rank": min(AHEAD_BYTES, budget // 4),
        "read_ahead_bound_bytes_a_rank": budget,
    }


def count_blocks(order: EpochOrder, sample_bytes: int) -> tuple[int, int]:
    """Blocks that all lanes touch, a block in two lanes counted twice, and their bytes; exact, from the lanes' ends."""
    live = order.samples
    in_blocks = live.blocks * live.block
    ends = np.cumsum([order.lane(lane).length for lane in range(order.lanes)])
    starts = np.concatenate(([0], ends[:-1]))
    first, last = starts // live.block, -(-np.minimum(ends, in_blocks) // live.block)
    full = int(np.maximum(0, last - first)[starts < in_blocks].sum())
    tails = live.tails[order._tail_shards]
    before = in_blocks + order._tails_before
    cut = ends[(ends > in_blocks) & (ends < len(order))]
    inside = np.searchsorted(before, cut, side="right") - 1
    split = inside[before[inside] < cut]  # tails that a lane's end cuts are fetched by both lanes
    blocks = full + len(tails) + len(split)
    return blocks, (full * live.block + int(tails.sum()) + int(tails[split].sum())) * sample_bytes


def walk_rank(order: EpochOrder, rank: int, scale: Scale) -> dict[str, int]:
    """One rank's epoch, sample by sample: blocks and heads fetched, samples of open blocks at once.

    A block is fetched with its first sample and given up with its last; heads go through a cache like the reader's.
    """
    own = np.arange(rank * scale.batch_size, (rank + 1) * scale.batch_size)
    if order.lanes % (scale.ranks * scale.batch_size):
        raise SystemExit("walking wants lanes that are a multiple of the global batch, so that ranks own theirs")
    steps = len(order) // (scale.ranks * scale.batch_size)
    positions = (np.arange(steps)[:, None] * scale.ranks * scale.batch_size + own).ravel()
    shards, ordinals = order.locate_many(positions)
    keys = (shards << 32) + ordinals // BLOCK
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    last = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(last, which, np.arange(len(keys)))
    sizes = np.array(scale.shard_sizes())
    samples = np.minimum(BLOCK, sizes[shards[first]] - ordinals[first] // BLOCK * BLOCK)
    change = np.zeros(len(keys) + 1, dtype=np.int64)
    np.add.at(change, first, samples)
    np.add.at(change, last + 1, -samples)
    heads: ByteCache[int] = ByteCache(HEAD_BYTES, lambda pages: PAGE_REF_BYTES * pages)
    fetched = 0
    for shard in shards[np.sort(first)].tolist():
        if shard not in heads.ready:
            fetched += 1
            pages = -(-int(sizes[shard]) // BLOCK)
            heads.get(shard, lambda pages=pages: pages)  # type: ignore[misc]
    return {"blocks": len(first), "heads": fetched, "held_samples": int(np.cumsum(change).max())}


def _hex(text: str) -> str:
    return blake3.blake3(text.encode()).hexdigest()


LIMITS = (
    ("opening", "seconds", 3.0),
    ("opening", "peak_mb", 300.0),
    ("locating", "worst_ms", 0.5),
    ("reading", "fetched_over_dataset", 1.05),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; 0 where all are within their limits, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.order_scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    for field in msgspec.structs.fields(Scale):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    options = vars(parser.parse_args(arguments))
    as_json = options.pop("json")
    figures = simulate(Scale(**options))
    missed = [f"{part} {name}" for part, name, most in LIMITS if figures[part][name] > most]
    figures["missed"] = missed
    if as_json:
        print(json.dumps(figures))
    else:
        for part in ("scale", "manifest", "opening", "locating", "reading"):
            print(f"{part}: " + ", ".join(f"{name} {value}" for name, value in figures[part].items()))
        print("missed: " + (", ".join(missed) or "nothing"))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
