"""Damage to what a tool wrote itself: cuts, flipped bits, missing members, poisoned caches, servers that misbehave.

Here: the trials, each undone before the next.
Elsewhere: the tars of others (foreign_tars.py), verdicts (verdict.py), the table of cases (cases.py).
"""

from __future__ import annotations

import random
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tools.conformance import material
from tools.conformance.process import Answer, Tool
from tools.conformance.server import serve_badly
from tools.conformance.verdict import Verdict, judge

T = TypeVar("T")
Trial = tuple[Verdict, str]
SHARDS = ([0, 1, 2], [3, 4, 5])
SAMPLES = 6


class Bench(NamedTuple):
    """Where a case works and how much it may do: a folder, trials and seconds for a cell (0: all there are)."""

    folder: Path
    trials: int
    seconds: float

    def spread(self, everything: Sequence[T]) -> Iterator[T]:
        """As many as the limits allow, spread evenly, in an order that is fair to stop in at any time."""
        chosen = list(everything)
        if self.trials and len(chosen) > self.trials:
            step = len(chosen) / self.trials
            chosen = [chosen[int(at * step)] for at in range(self.trials)]
        random.Random(0).shuffle(chosen)
        began = time.monotonic()
        for one in chosen:
            if self.seconds and time.monotonic() - began > self.seconds:
                return
            yield one


class Written(NamedTuple):
    """A dataset that a tool wrote, what reading it gives, and the data file to be damaged."""

    tool: Tool
    folder: Path
    wanted: list[str]
    file: Path
    data: bytes

    def read(self, cache: str = "") -> Answer:
        """All samples in stored order."""
        return self.tool.ask("read", place=str(self.folder), cache=cache)

    def try_bytes(self, data: bytes) -> Trial:
        """Read with other bytes in the data file; the right ones are back afterwards."""
        self.file.write_bytes(data)
        answer = self.read()
        self.file.write_bytes(self.data)
        return judge(answer, self.wanted), answer.error


def cut_at_every_byte(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """A data file cut to every length."""
    written = write(tool, bench.folder)
    for length in bench.spread(range(len(written.data))):
        yield written.try_bytes(written.data[:length])


def cut_at_members(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """A tar of 200 members cut at the end of each of them."""
    written = write(tool, bench.folder, shards=(list(range(100)), [100]))
    if not tarfile.is_tarfile(written.file):
        return
    for end in bench.spread(member_ends(written.file)[:-1]):
        yield written.try_bytes(written.data[:end])


def flipped_bits(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """Every bit of a data file."""
    written = write(tool, bench.folder)
    for bit in bench.spread(range(8 * len(written.data))):
        at = bit // 8
        changed = bytes([written.data[at] ^ 1 << bit % 8])
        yield written.try_bytes(written.data[:at] + changed + written.data[at + 1 :])


def missing_members(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """A tar made again without one of its members; whatever index the tool has stays."""
    written = write(tool, bench.folder)
    if not tarfile.is_tarfile(written.file):
        return
    ends = [0, *member_ends(written.file)]
    for start, end in bench.spread(list(pairwise(ends))):
        yield written.try_bytes(written.data[:start] + written.data[end:])


def poisoned_cache(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """Read once through a cache on disk, flip a bit in what lies there, read again."""
    written = write(tool, bench.folder)
    cache = bench.folder / "cache"
    cache.mkdir()
    with _served(tool, written.folder) as place:
        first = tool.ask("read", place=place, cache=str(cache))
        assert not first.error and first.seen == written.wanted, f"{tool.name} cannot read through its cache: {first}"
        files = [path for path in cache.rglob("*") if path.is_file() and _holds_samples(path)]
        assert files, f"{tool.name} left nothing in its cache"
        good = {path: path.read_bytes() for path in files}
        everywhere = [(path, bit) for path in files for bit in range(0, 8 * len(good[path]), 31)]
        for path, bit in bench.spread(everywhere):
            data = bytearray(good[path])
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            answer = tool.ask("read", place=place, cache=str(cache))
            yield judge(answer, written.wanted), answer.error
            for name, content in good.items():  # a tool may have thrown the file away, or fetched it again
                name.parent.mkdir(parents=True, exist_ok=True)
                name.write_bytes(content)


def bad_server(fault: str) -> Any:
    """The trials of one misbehaviour: in the first request for data, in the second, …, or in all."""

    def trials(tool: Tool, bench: Bench) -> Iterator[Trial]:
        written = write(tool, bench.folder)
        with serve_badly(written.folder, "", 0) as server:
            control = tool.ask("read", place=server.url, cache="")
        assert control.seen == written.wanted, f"{tool.name} cannot read from a good server: {control}"
        for number in bench.spread((1, 2, 3, 0)):
            with serve_badly(written.folder, fault, number) as server:
                answer = tool.ask("read", place=server.url, cache="")
                yield judge(answer, written.wanted), answer.error

    return trials


def write(tool: Tool, folder: Path, shards: Iterable[Sequence[int]] = SHARDS) -> Written:
    """Have the tool write its dataset; its first data file is the one to be damaged."""
    place = folder / "data"
    answer = tool.ask("write", folder=str(place), shards=[list(shard) for shard in shards])
    assert not answer.error and not answer.died, f"{tool.name} cannot write: {answer}"
    numbers = [number for shard in shards for number in shard]
    digests = [material.digest_of(material.fields_of(number)) for number in numbers]
    files = sorted(place.glob(tool.about["data"]))
    first = material.fields_of(numbers[0])[material.IMAGE]
    file = next((path for path in files if first in path.read_bytes()), files[0])
    return Written(tool, place, digests, file, file.read_bytes())


def member_ends(path: Path) -> list[int]:
    """Where every member of a tar ends, its padding included."""
    with tarfile.open(path) as tar:
        return [member.offset_data + member.size + -member.size % 512 for member in tar]


@contextmanager
def _served(tool: Tool, folder: Path) -> Iterator[str]:
    """The dataset where the tool caches it from: over http where it reads that, a folder elsewhere."""
    if not tool.offers("http"):
        yield str(folder)
        return
    with serve_badly(folder, "", 0) as server:
        yield server.url


def _holds_samples(path: Path) -> bool:
    data = path.read_bytes()
    return any(material.fields_of(number)[material.IMAGE][:64] in data for number in range(SAMPLES))


def clear(folder: Path) -> None:
    """An empty folder again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
