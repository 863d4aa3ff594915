"""How well shuffles mix sources, ours beside webdataset's and MosaicML's, where every shard holds one source only.

Here: `python -m tools.shuffle_quality [--json] [--plot FILE]`: the peers' own shuffles over the same shards.
Elsewhere: the order (shardkit.read.order), speed (tools.bench).

Figures of a batch size: `variance`, of a source's share in a batch over its variance in a true permutation (1 is
perfect, below 1 is chance); `correlation`, of the batches' mixes 100 steps apart (0 is perfect).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shardkit.read.order import I64, EpochOrder, LiveSamples
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import Extent, first_state, lanes_used

STEPS_APART = 100
BATCHES = {256: 1.25, 2048: 1.5}
"""Batch sizes, and how large our variance may be."""

MOST_CORRELATION = 0.2


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Shards of one source each; shard s holds source s modulo `sources`. Blocks and windows follow `sample_bytes`."""

    shards: int = 1000
    sources: int = 20
    samples_a_shard: int = 1000
    sample_bytes: int = 51_200
    seed: int = 0

    @property
    def samples(self) -> int:
        """Samples of the whole dataset."""
        return self.shards * self.samples_a_shard

    @property
    def block(self) -> int:
        """Samples of a block, as a build chooses them: about 256 KiB, at least 16."""
        return max(16, (256 << 10) // self.sample_bytes)


class Shuffle(msgspec.Struct, frozen=True, kw_only=True):
    """One way to shuffle: what it is called, how many samples it mixes among, and the shard of every sample in turn."""

    name: str
    pool: int
    shards_in_turn: Callable[[], I64]


def shuffles_of(setting: Setting) -> list[Shuffle]:
    """Ours at its defaults, a true permutation, and the peers that are installed."""
    order = our_order(setting)
    pool = min(setting.samples, order.lanes * order.window)
    found = [
        Shuffle(name="true permutation", pool=setting.samples, shards_in_turn=lambda: permuted(setting)),
        Shuffle(name="shardkit", pool=pool, shards_in_turn=lambda: order.locate_many(np.arange(len(order)))[0]),
    ]
    if importlib.util.find_spec("webdataset") is not None:
        for buffer in (1000, 10_000, pool):
            found.append(
                Shuffle(
                    name=f"webdataset, buffer {buffer:,}",
                    pool=buffer,
                    shards_in_turn=lambda buffer=buffer: webdataset_order(setting, buffer),  # type: ignore[misc]
                )
            )
    if importlib.util.find_spec("streaming") is not None:
        for algorithm, block in (("py1e", pool), ("py1br", pool), ("py1e", 4_000_000)):
            found.append(
                Shuffle(
                    name=f"MosaicML {algorithm}, block {block:,}",
                    pool=min(block, setting.samples),
                    shards_in_turn=lambda a=algorithm, b=block: mosaic_order(setting, a, b),  # type: ignore[misc]
                )
            )
    return found


def our_order(setting: Setting) -> EpochOrder:
    """Our first epoch at the defaults of a loader."""
    block, samples = setting.block, setting.samples
    tar_bytes = samples * setting.sample_bytes
    extent = Extent(samples=samples, block=block, tar_bytes=tar_bytes, stored=samples)
    state = first_state("0" * 64, [extent], LoaderSpec(seed=setting.seed))
    lanes = lanes_used(state.lanes, samples, block)
    live = LiveSamples([setting.samples_a_shard] * setting.shards, block)
    return EpochOrder(live, seed=setting.seed, epoch=0, lanes=lanes, window=state.window)


def permuted(setting: Setting) -> I64:
    """A true permutation's shards."""
    return np.random.default_rng(setting.seed).permutation(setting.samples) // setting.samples_a_shard


def webdataset_order(setting: Setting, buffer: int) -> I64:
    """Shards shuffled, then samples through its shuffle buffer, as its documentation shows; by one worker."""
    import webdataset

    def expand(urls: Iterator[dict[str, Any]]) -> Iterator[int]:
        for each in urls:
            shard = int(each["url"].removesuffix(".tar"))
            for _ in range(setting.samples_a_shard):
                yield shard

    names = [f"{shard:06d}.tar" for shard in range(setting.shards)]
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(names, seed=setting.seed),
        expand,
        webdataset.shuffle(buffer, initial=buffer, seed=setting.seed),
    )
    return np.fromiter(pipeline, dtype=np.int64)


def mosaic_order(setting: Setting, algorithm: str, block: int) -> I64:
    """Its partition for one device without workers, and its shuffle of one node; 4,000,000 is its default block."""
    # Its vision part needs torchvision, which nothing here uses.
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    from streaming.base.partition import get_partitions
    from streaming.base.shuffle import get_shuffle

    sizes = np.full(setting.shards, setting.samples_a_shard, dtype=np.int64)
    shuffled = get_shuffle(algorithm, sizes, 1, setting.seed + 9176, 0, block)
    ids = get_partitions("relaxed", setting.samples, 1, 1, 1, 1, max(BATCHES)).ravel()
    found: I64 = shuffled[ids[ids >= 0]] // setting.samples_a_shard
    return found


def figures_of(shards: I64, setting: Setting) -> dict[str, dict[str, float]]:
    """Variance and correlation of a shuffle by batch size."""
    return {str(batch): _figures(mixes(shards, setting, batch), setting, batch) for batch in BATCHES}


def mixes(shards: I64, setting: Setting, batch: int) -> I64:
    """How many samples of each source every batch has: (batches, sources)."""
    steps = len(shards) // batch
    sources = shards[: steps * batch] % setting.sources
    cells = np.repeat(np.arange(steps), batch) * setting.sources + sources
    return np.bincount(cells, minlength=steps * setting.sources).reshape(steps, setting.sources)


def _figures(counts: I64, setting: Setting, batch: int) -> dict[str, float]:
    share = np.bincount(np.arange(setting.shards) % setting.sources, minlength=setting.sources) / setting.shards
    ideal = batch * share * (1 - share) * (setting.samples - batch) / (setting.samples - 1)
    off = counts - batch * share
    before, after = off[:-STEPS_APART].ravel(), off[STEPS_APART:].ravel()
    correlation = (before @ after) / np.sqrt((before @ before) * (after @ after))
    return {
        "variance": round(float((off**2).mean(axis=0).sum() / ideal.sum()), 3),
        "correlation": round(float(correlation), 3),
    }


def measure(setting: Setting) -> dict[str, Any]:
    """Figures of every shuffle, and where ours misses its limits."""
    rows: list[dict[str, Any]] = []
    for shuffle in shuffles_of(setting):
        figures = figures_of(shuffle.shards_in_turn(), setting)
        rows.append({"name": shuffle.name, "pool": shuffle.pool, **figures})
    ours = next(row for row in rows if row["name"] == "shardkit")
    missed = [
        f"{name} at batch {batch}"
        for batch, most in BATCHES.items()
        for name, limit in (("variance", most), ("correlation", MOST_CORRELATION))
        if abs(ours[str(batch)][name]) > limit
    ]
    return {"setting": msgspec.to_builtins(setting), "block": setting.block, "shuffles": rows, "missed": missed}


def plot(result: dict[str, Any], path: Path) -> None:
    """Both figures of every shuffle as bars, the limits as lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = result["shuffles"]
    figure, panels = pyplot.subplots(2, 2, figsize=(12, 7), sharey=True, layout="constrained")
    colours = ["#7f7f7f" if row["name"] == "true permutation" else "#1f77b4" if row["name"] == "shardkit" else "#ff9f4a"
               for row in rows]  # fmt: skip
    names = [f"{row['name']}\nmixes among {row['pool']:,}" for row in rows]
    for line, (batch, most) in zip(panels, BATCHES.items(), strict=True):
        for panel, (figure_name, limit) in zip(
            line, (("variance", most), ("correlation", MOST_CORRELATION)), strict=True
        ):
            values = [max(abs(row[str(batch)][figure_name]), 1e-3) for row in rows]
            bars = panel.barh(names, values, color=colours)
            panel.bar_label(bars, labels=[f" {row[str(batch)][figure_name]:.3g}" for row in rows], fontsize=8)
            panel.axvline(limit, color="#d62728", linestyle="--", linewidth=1, label=f"limit {limit}")
            if figure_name == "variance":
                panel.set_xscale("log")
                panel.set_xlim(0.5, 4 * max(values))
                panel.set_title(f"batch {batch:,}: variance of the mix, 1 = true permutation")
            else:
                panel.set_xlim(0, 1.15)
                panel.set_title(f"batch {batch:,}: correlation {STEPS_APART} steps apart")
            panel.tick_params(axis="y", labelsize=8)
            panel.legend(loc="lower right", fontsize=8)
    panels[0][0].invert_yaxis()  # all four share it
    setting = result["setting"]
    figure.suptitle(
        f"{setting['shards']:,} shards of one source each, {setting['sources']} sources, "
        f"{setting['shards'] * setting['samples_a_shard']:,} samples of {setting['sample_bytes']:,} bytes"
    )
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; 0 where ours are within their limits, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.shuffle_quality", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of a table")
    parser.add_argument("--plot", type=Path, help="write the figures as a picture")
    for field in msgspec.structs.fields(Setting):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    options = vars(parser.parse_args(arguments))
    as_json, picture = options.pop("json"), options.pop("plot")
    result = measure(Setting(**options))
    if picture is not None:
        plot(result, picture)
    if as_json:
        print(json.dumps(result))
    else:
        print(
            f"{'':34}{'mixes among':>12}" + "".join(f"{f'batch {b}: variance':>22}{'correlation':>13}" for b in BATCHES)
        )
        for row in result["shuffles"]:
            cells = "".join(f"{row[str(b)]['variance']:>22}{row[str(b)]['correlation']:>13}" for b in BATCHES)
            print(f"{row['name']:34}{row['pool']:>12,}{cells}")
        print("missed: " + (", ".join(result["missed"]) or "nothing"))
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
