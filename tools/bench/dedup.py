"""How deduplication finds planted copies: `python -m tools.bench.dedup --texts 100000`, beside datasketch's MinHashLSH.

Here: a dataset of generated texts, each side in a process of its own, recall and precision, rate and peak memory.
Elsewhere: the texts and how copies are altered (dedup_texts.py), deduplication (shardkit.curate).

A copy is found where it is left out; whatever else is left out is wrong. The peer is in `.venv-bench`
(`python3 tools/bootstrap.py --bench`); it reads the same dataset and gets the same runs of three words.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tools.bootstrap as bootstrap
from shardkit.curate.benchmarks import open_benchmarks, read_rows
from shardkit.curate.dedup import FOUND, How, find, open_one
from shardkit.curate.text import band_rows
from shardkit.curate.words import split_words
from shardkit.records.row import Prepared
from shardkit.records.sample import Message, Sample
from shardkit.spec import DedupOptions
from shardkit.store.layout import LaneTotals, Manifest, PlanRecord, ShardEntry, Totals
from shardkit.store.publish import lock, publish_shard, publish_version
from shardkit.store.shard import ShardWriter
from tools.bench.dedup_texts import KINDS, LEAST, SHINGLE_WORDS, Text, make_texts

SHARD_TEXTS, BLOCK = 10_000, 64
TRUTH = np.dtype([("kind", "u1"), ("of", "<i8")])
NAMES = ("original", "framed", "too far", *KINDS)
MOST_PLANTED = 500
PERMUTATIONS = 128
"""The peer's own default."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.dedup", description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument("--folder", type=Path, help="keep the dataset here, and use what is there")
    parser.add_argument("--against", metavar="ROWS", help="plant rows of this benchmark, such as gsm8k.jsonl, instead")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        print(json.dumps(run_side(options.side, options.folder)))
        return 0
    with tempfile.TemporaryDirectory(prefix="shardkit-dedup-") as folder:
        if options.against:
            print(json.dumps(find_planted_rows(Path(folder), options.against, make_texts(options.texts, options.seed))))
            return 0
        figures = measure(options.folder or Path(folder), options)
    print(json.dumps(figures) if options.json else table(figures))
    return 0


def find_planted_rows(folder: Path, against: str, texts: Iterator[Text]) -> dict[str, Any]:
    """Plant rows of a benchmark with other white space and case among texts; how many of them are found, what else."""
    draw = random.Random(0)
    (benchmark,) = open_benchmarks([against], folder / "benchmarks").found
    rows = [rewritten(draw, max(row, key=len)) for row in read_rows(benchmark) if row]
    planted = [
        Text(f"Please solve this.\n{row}", "original", -1, 0.0) for row in draw.sample(rows, min(500, len(rows)))
    ]
    mixed = [*planted, *texts]
    draw.shuffle(mixed)
    make_dataset(folder, iter(mixed), len(mixed))
    options = DedupOptions(compare=(), against=(against,))
    begin = time.process_time()
    found = find(open_one(folder / "data"), options, folder, How(pins=folder / "benchmarks")).omissions
    places = set((found["shard"].astype(np.int64) * SHARD_TEXTS + found["ordinal"]).tolist())
    right = sum(1 for at in places if mixed[at].text.startswith("Please solve this."))
    return {
        "texts": len(mixed), "benchmark": benchmark.name, "planted": len(planted), "found": right,
        "wrong": len(places) - right, "cpu_seconds": time.process_time() - begin,
    }  # fmt: skip


def rewritten(draw: random.Random, text: str) -> str:
    """The text with other white space and case."""
    words = [word.upper() if draw.random() < 0.3 else word.lower() for word in text.split()]
    return "".join(word + draw.choice((" ", "  ", "\n", "\t ")) for word in words)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the texts, run each side, compare what it left out with what was planted."""
    if not (folder / "truth.npy").is_file():
        make_dataset(folder, make_texts(options.texts, options.seed), options.texts)
    truth = np.load(folder / "truth.npy")
    figures: dict[str, Any] = {"texts": len(truth), "planted": int(np.count_nonzero(truth["of"][_copies(truth)] >= 0))}
    for side in ("shardkit",) if options.alone or not peer_installed() else SIDES:
        python = sys.executable if side == "shardkit" else str(bootstrap.PEERS_VENV / "bin" / "python")
        command = [python, "-m", "tools.bench.dedup", "--side", side, "--folder", str(folder)]
        ran = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        figures[side] = ran | score(truth, np.load(folder / f"{side}.npy"))
    return figures


def make_dataset(folder: Path, texts: Iterator[Text], count: int) -> None:
    """A dataset of texts in order, and the file that says how each was made."""
    root = folder / "data"
    truth = np.zeros(count, TRUTH)
    entries: list[ShardEntry] = []
    with lock(root):
        for first in range(0, count, SHARD_TEXTS):
            writer = ShardWriter(
                root, source="texts", lane="texts-0", ordinal=len(entries), codec="tar.zst", block_samples=BLOCK
            )
            for number in range(first, min(first + SHARD_TEXTS, count)):
                text = next(texts)
                truth[number] = NAMES.index(text.kind), text.of
                message = Message(role="user", content=text.text)
                sample = Sample(id=str(number), messages=(message,), domain="d", category=text.kind, source="texts")
                assert writer.add(Prepared(sample=sample)), "two texts are the same"
            staged = writer.seal(durable=False)
            publish_shard(root, staged)
            entries.append(staged.entry)
        publish_version(root, _manifest(entries, count))
    np.save(folder / "truth.npy", truth)


def run_side(side: str, folder: Path) -> dict[str, Any]:
    """Run one side on a dataset in this process, save what it leaves out, and tell seconds and peak memory."""
    begin, busy = time.perf_counter(), time.process_time()
    found = SIDES[side](folder)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - busy
    np.save(folder / f"{side}.npy", found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak}


def ours(folder: Path) -> npt.NDArray[np.int64]:
    """(left out, of which text) by shardkit, in one process."""
    dataset = open_one(folder / "data")
    found = find(dataset, DedupOptions(), folder).omissions.astype(FOUND)
    gone = found["shard"].astype(np.int64) * SHARD_TEXTS + found["ordinal"]
    return np.stack((gone, found["of_shard"].astype(np.int64) * SHARD_TEXTS + found["of_ordinal"]), axis=1)


def datasketch(folder: Path) -> npt.NDArray[np.int64]:
    """The same by datasketch as it comes: a text goes where the index already has one that it calls similar."""
    return _by_datasketch(folder, {"threshold": LEAST})


def datasketch_our_bands(folder: Path) -> npt.NDArray[np.int64]:
    """The same with as many bands as ours: finds as many, and calls more similar that is not."""
    return _by_datasketch(folder, {"params": (120 // band_rows(LEAST), band_rows(LEAST))})


def _by_datasketch(folder: Path, settings: dict[str, Any]) -> npt.NDArray[np.int64]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, **settings)
    gone = []
    for number, sketch in enumerate(MinHash.generator(_runs(folder), num_perm=PERMUTATIONS)):
        similar = index.query(sketch)
        if similar:
            gone.append((number, min(similar)))
        index.insert(number, sketch, check_duplication=False)
    return np.array(gone, np.int64).reshape(-1, 2)


def _runs(folder: Path) -> Iterator[list[bytes]]:
    """The runs of words of each text, once each."""
    for item in open_one(folder / "data"):
        words = split_words(item.sample.messages[0].content)
        yield list({b" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)})


SIDES: dict[str, Callable[[Path], npt.NDArray[np.int64]]] = {
    "shardkit": ours,
    "datasketch": datasketch,
    "datasketch 20x6": datasketch_our_bands,
}


def score(truth: npt.NDArray[np.void], found: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Recall, overall and by kind, and precision: of what was left out, the share that was planted.

    A copy too far from its original counts as wrong, also where it is near another copy of it.
    """
    gone = np.zeros(len(truth), dtype=bool)
    gone[found[:, 0]] = True
    copies = _copies(truth)
    kinds = {name: truth["kind"] == NAMES.index(name) for name in NAMES}
    return {
        "left_out": len(found),
        "recall": float(gone[copies].mean()),
        "precision": float(copies[gone].mean()) if gone.any() else 1.0,
        "recall_by_kind": {name: float(gone[kinds[name]].mean()) for name in KINDS if kinds[name].any()},
        "wrong": {name: int(np.count_nonzero(gone & own)) for name, own in kinds.items() if name not in KINDS},
        "with_its_original": float((truth["of"][found[:, 0]] == found[:, 1]).mean()) if len(found) else 1.0,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as lines for a terminal."""
    sides = [side for side in SIDES if side in figures]
    rows = [("", *sides)]
    rows.append(("texts a second", *(f"{figures['texts'] / figures[side]['seconds']:,.0f}" for side in sides)))
    rows.append(("texts a CPU second", *(f"{figures['texts'] / figures[side]['cpu_seconds']:,.0f}" for side in sides)))
    rows.append(("peak memory, MB", *(f"{figures[side]['peak_mb']:,.0f}" for side in sides)))
    for name in ("precision", "recall"):
        rows.append((name, *(f"{figures[side][name]:.2%}" for side in sides)))
    for kind in KINDS:
        rows.append((f"recall, {kind}", *(f"{figures[side]['recall_by_kind'].get(kind, 1):.2%}" for side in sides)))
    for kind in ("original", "framed", "too far"):
        rows.append((f"wrong: {kind}", *(f"{figures[side]['wrong'][kind]:,}" for side in sides)))
    lines = [f"{row[0]:<24}" + "".join(f"{cell:>18}" for cell in row[1:]) for row in rows]
    return "\n".join([f"{figures['texts']:,} texts, {figures['planted']:,} planted copies", *lines])


def peer_installed() -> bool:
    """Whether datasketch is where the bench's peers are."""
    return any((bootstrap.PEERS_VENV / "lib").glob("python*/site-packages/datasketch"))


def _copies(truth: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    planted: npt.NDArray[np.bool_] = truth["kind"] >= NAMES.index(next(iter(KINDS)))
    return planted


def _manifest(entries: Sequence[ShardEntry], count: int) -> Manifest:
    plan = PlanRecord(name="texts", seed=0, duplicates="keep", limits={}, sources=(), lanes=())
    totals = Totals(samples=count, shards=len(entries), bytes=sum(entry.shard.bytes for entry in entries))
    return Manifest(
        name="texts", block_samples=BLOCK, plan=plan, plan_digest="0" * 64, totals=totals,
        lanes={"texts-0": LaneTotals(rows=count, samples=count)}, shards=tuple(entries),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
