"""Chat rows of text through a lane: `python -m tools.bench.normalise`, with a profile by stage.

Here: the rows, the whole lane on one core, and the same stages one at a time.
Elsewhere: the lane itself (shardkit.build.lane), the writer beside peers (ours.py, peers.py).

Rates are rows per second of processor time: of one core, whatever else the machine does; the fastest of some rounds.
The whole lane is measured as a build runs it, in one thread; as it runs sources that make it wait, with a thread that
reads; and with rules of language, secrets and personal data. The profile runs each stage over the same rows alone, so
that its parts add up to about the whole.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shardkit.build.cutter import Draft, LaneJob
from shardkit.build.lane import run_lane, work
from shardkit.records.row import Prepared
from shardkit.sources.jsonl import read_lines
from shardkit.sources.listing import open_pinned, read_listing
from shardkit.sources.strict_json import parse_object
from shardkit.sources.table import open_source
from shardkit.spec import BuildSpec, JsonlSource, Rules, convert_spec
from shardkit.store.layout import LaneRecord, LaneTotals
from shardkit.store.shard import ShardWriter

RULES = Rules(languages=("en",), secrets="refuse", personal="redact", licences=("free",))
RULED = "whole lane, languages, secrets and people looked for"
TEXT = (
    "the server answers with a list of orders and each row has an id a name a price in cents and the time of its last "
    "change so a query that joins them by customer must use the index on created_at or it reads the whole table"
)
WORDS = TEXT.split()
LINE_BYTES = 16 << 20


class Figure(NamedTuple):
    """Rows per second of processor time, and of time on the wall."""

    name: str
    rows_per_second: float
    wall_rows_per_second: float


def main() -> int:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="shardkit-bench-") as folder:
        job = prepare(Path(folder), options.rows, options.normalizer)
        whole = [whole_lane(job, threads, options.rounds) for threads in (None, 0)]
        ruled = msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, rules=RULES))
        whole.append(whole_lane(ruled, None, options.rounds)._replace(name=RULED))
        profile = by_stage(job, options.rounds)
    told = {
        "rows": options.rows,
        "normalizer": options.normalizer,
        "whole": [figure._asdict() for figure in whole],
        "microseconds_by_stage": profile,
    }
    if options.json:
        print(json.dumps(told))
        return 0
    for figure in whole:
        print(f"{figure.name:<53} {figure.rows_per_second:>9,.0f} rows/s of a core, "
              f"{figure.wall_rows_per_second:>9,.0f} on the wall")  # fmt: skip
    for name, cost in profile.items():
        print(f"  {name:<40} {cost:>9.2f} microseconds a row")
    print(f"  {'all stages':<40} {sum(profile.values()):>9.2f} microseconds a row")
    return 0


def prepare(folder: Path, rows: int, normalizer: str) -> LaneJob:
    """Rows in a file, pinned, and the lane that reads them into `folder`."""
    path = folder / "chats.jsonl"
    with path.open("wb") as file:
        file.writelines(chat_line(number, normalizer) for number in range(rows))
    columns = {} if normalizer == "messages" else {"question": "prompt", "answer": "response"}
    source = {"kind": "jsonl", "name": "chats", "path": str(path), "normalizer": normalizer, "columns": columns}
    spec = convert_spec({"name": "bench", "sources": [{**source, "licence": "mit"}]}, BuildSpec, "bench")
    own = spec.sources[0]
    pins = folder / "pins"
    pins.mkdir()
    pinned = open_source(own, spec.seed).pin(pins)
    lane = LaneRecord(name="chats-000-bench", source="chats", partition=0, partitions=1)
    return LaneJob(root=str(folder), lane=lane, spec=own, revision=pinned.revision, pins=str(pins), seed=0)


def chat_line(number: int, normalizer: str) -> bytes:
    """A row of 500 to 1,000 bytes, a function of `number`: two to four turns, or a question and its answer."""
    rng = random.Random(number)
    turns = 2 if normalizer != "messages" else rng.choice((2, 3, 4))
    characters = rng.randint(500, 1000) - 60 * turns
    texts = [_text(rng, number, characters // turns) for _ in range(turns)]
    if normalizer != "messages":
        return json.dumps({"prompt": texts[0], "response": texts[1]}).encode() + b"\n"
    roles = {2: ("user", "assistant"), 3: ("system", "user", "assistant"), 4: ("user", "assistant") * 2}[turns]
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    return json.dumps({"messages": messages}).encode() + b"\n"


def whole_lane(job: LaneJob, threads: int | None, rounds: int) -> Figure:
    """The lane as a build runs it, publishing left out; the fastest of some rounds."""
    walls, cores = [], []
    totals = LaneTotals()
    for _ in range(rounds):
        outlet = Staged()
        wall, core = time.perf_counter(), time.process_time()
        run_lane(msgspec.structs.replace(job, threads=threads), outlet)
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
        totals = outlet.totals
    name = f"whole lane, {'one thread, as builds run it' if threads is None else 'a thread beside it reads'}"
    return Figure(name, totals.rows / min(cores), totals.rows / min(walls))


class Staged:
    """Throws away what a lane stages."""

    totals = LaneTotals()

    def commit(self, draft: Draft) -> None:
        """Unlink it."""
        self.totals = draft.totals
        if draft.staged is not None:
            draft.staged.shard.unlink()
            draft.staged.index.unlink()

    def progress(self, totals: LaneTotals, shard_bytes: int) -> None:
        """Show nothing."""


def by_stage(job: LaneJob, rounds: int) -> dict[str, float]:
    """Microseconds of processor time a row of each stage; the fastest of some rounds.

    Without the collector of cycles, which has more to look through here, where the rows of all stages are kept.
    """
    costs: dict[str, list[float]] = {}
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        held: Any = None
        kept: dict[str, Any] = {}
        for name, stage in STAGES.items():
            begun = time.process_time()
            held = stage(job, kept)
            costs.setdefault(name, []).append(time.process_time() - begun)
            kept[name] = held
        rows = len(kept[LINES])
    gc.enable()
    profile = {name: min(found) / rows * 1e6 for name, found in costs.items()}
    profile[ROWS] = max(0.0, profile[ROWS] - profile[LINES] - profile[PARSED])
    return profile


LINES, PARSED, ROWS = "read: lines, digests of the file", "parse: strict JSON", "rows and cursors"
OUTCOMES, ENCODED = "normalise, validate, prepare", "encode, digest, key"
STAGES: dict[str, Callable[[LaneJob, dict[str, Any]], Any]] = {
    LINES: lambda job, kept: list(_lines(job)),
    PARSED: lambda job, kept: [parse_object(line) for line in kept[LINES]],
    ROWS: lambda job, kept: list(_steps(job)),
    OUTCOMES: lambda job, kept: [work(step, job) for step in kept[ROWS]],
    ENCODED: lambda job, kept: _encode(job, kept[OUTCOMES]),
    "write: tar, hashes, index": lambda job, kept: _write(job, kept[ENCODED]),
}


def _lines(job: LaneJob) -> Iterator[bytes]:
    spec = job.spec
    assert isinstance(spec, JsonlSource)
    for entry in read_listing(Path(job.pins), spec.name):
        with open_pinned(spec.path, entry, spec.name) as stream:
            yield from (line.data for line in read_lines(stream, 0, 0, LINE_BYTES) if line.data)


def _steps(job: LaneJob) -> Iterator[Any]:
    return open_source(job.spec, job.seed).rows(Path(job.pins), 0, 1, None)


def _encode(job: LaneJob, outcomes: list[Any]) -> list[Any]:
    writer = _writer(job)
    encoded = list(writer.encode(outcome.result for outcome in outcomes if isinstance(outcome.result, Prepared)))
    writer.abandon()
    return encoded


def _writer(job: LaneJob) -> ShardWriter:
    return ShardWriter(Path(job.root), source="chats", lane=job.lane.name, ordinal=0, codec="tar", block_samples=16)


def _write(job: LaneJob, encoded: list[Any]) -> None:
    writer = _writer(job)
    writer.fill(encoded)
    staged = writer.seal()
    staged.shard.unlink()
    staged.index.unlink()


def _text(rng: random.Random, number: int, characters: int) -> str:
    words = [f"Order {number}:"]
    size = 0
    while size < characters:
        word = rng.choice(WORDS)
        words.append(word)
        size += len(word) + 1
    return " ".join(words) + rng.choice((".", "?", ".\n", '. He said "yes".', " – naïve"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.normalise", description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5, help="the fastest is shown: other processes only add")
    parser.add_argument("--normalizer", choices=("messages", "question_answer"), default="messages")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()
    if options.rows < 1000 or options.rounds < 1:
        parser.error("--rows is at least 1000, --rounds at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
