"""Rows of benchmarks as texts: from a dataset of ours, from files of JSON lines, or from a source of the catalog.

Here: opening and reading them, what identifies a benchmark.
Elsewhere: sources (pinned.py), fields of rows (row_texts.py), what is done with the texts (ngrams.py).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import blake3
import msgspec

from shardkit.curate.features import plain_text, turns
from shardkit.curate.pinned import Pinned, pin_source, read_texts, together
from shardkit.curate.row_texts import texts_of
from shardkit.errors import SourceDamaged, SpecError
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.sources.compressed import damage_named, open_stream
from shardkit.spec import BenchmarkSource
from shardkit.spec.catalog.benchmarks import LINES, find_benchmarks
from shardkit.spec.catalog.folder import catalog_folders
from shardkit.store import fs
from shardkit.store.layout import POINTER_PATH, Stored


class Benchmark(NamedTuple):
    """A benchmark by the name that reports give it; `digest` is of its content; `pinned` where it is a source's."""

    name: str
    digest: str
    where: str
    pinned: Pinned | None = None

    @property
    def origin(self) -> dict[str, str]:
        """`entry`, `dataset` and `revision` of its source, those that it has."""
        if self.pinned is None:
            return {}
        given, pin = self.pinned.given, self.pinned.pin
        told = {"entry": given.entry, "dataset": self.pinned.dataset, "revision": pin.revision}
        return {name: value for name, value in told.items() if value}


class Unreachable(Stored, frozen=True, kw_only=True):
    """A benchmark that was asked for and could not be had, and why."""

    name: str
    reason: str


class Opened(NamedTuple):
    """The benchmarks that are compared with, and those that were left out for being unreachable."""

    found: tuple[Benchmark, ...]
    unreachable: tuple[Unreachable, ...]


def open_benchmarks(places: Sequence[str | BenchmarkSource], pins: Path, skip_unreachable: bool = False) -> Opened:
    """Benchmarks in the order given; of several with one name the later ones get a number.

    What sources are pinned to is kept in the folder `pins`, and found there again. Raises SpecError (nothing there,
    one given twice), NotADataset, ShardDamaged, SourceFailed (not with `skip_unreachable`).
    """
    found: list[Benchmark] = []
    unreachable: list[Unreachable] = []
    for place in find_benchmarks(places, catalog_folders()):
        benchmark = _open(place) if isinstance(place, str) else _of_source(pin_source(place, pins, skip_unreachable))
        if isinstance(benchmark, Unreachable):
            unreachable.append(benchmark)
            continue
        if any(benchmark.digest == other.digest for other in found):
            raise SpecError(f"{benchmark.where} is given twice, or holds the same rows as another benchmark")
        names = {other.name for other in found}
        free = (f"{benchmark.name}-{number}" for number in itertools.count(2))
        name = benchmark.name if benchmark.name not in names else next(one for one in free if one not in names)
        found.append(benchmark._replace(name=name))
    return Opened(tuple(found), tuple(unreachable))


def read_rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """The texts of each row, in order.

    Raises SpecError (a line that is no object), SourceDamaged, ShardDamaged, SourceFailed.
    """
    if benchmark.pinned is not None:
        yield from read_texts(benchmark.pinned)
        return
    files = _files(benchmark.where)
    if files is None:
        dataset = _dataset(benchmark.where)
        for item in dataset:
            said = [plain_text(content) for role, content in turns(item.sample) if role != "system"]
            shown = item.sample.modalities.image or item.sample.modalities.video
            yield together(said) if shown else said
        return
    for file in files:
        yield from _rows_of(file)


def _of_source(pinned: Pinned) -> Benchmark | Unreachable:
    name = pinned.given.name
    if pinned.pin.unreachable:
        return Unreachable(name=name, reason=pinned.pin.unreachable)
    return Benchmark(name, pinned.digest, name, pinned)


def _open(place: str) -> Benchmark:
    files = _files(place)
    if files is None:
        dataset = _dataset(place)
        return Benchmark(dataset.manifest.name, dataset.version, place)
    digest = blake3.blake3()
    for file in files:
        for chunk in fs.read_chunks(file):
            digest.update(chunk)
    return Benchmark(Path(place).name.split(".")[0], digest.hexdigest(), place)


def _files(place: str) -> list[Path] | None:
    """The files of JSON lines that a place names; None for a dataset."""
    path = Path(place)
    if "://" in place or (path / POINTER_PATH).is_file() or place.endswith((".tar", ".tar.zst")):
        return None
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.name.endswith(LINES) and file.is_file())
    else:
        found = [path] if path.is_file() and path.name.endswith(LINES) else []
    if not found:
        raise SpecError(
            f"--against {place}: found no benchmark; wanted a dataset, a file or folder of {', '.join(LINES)}, "
            "or an entry of the catalog"
        )
    return found


def _dataset(place: str) -> Dataset:
    found = open_dataset(place)
    assert isinstance(found, Dataset), "one name opens one dataset"
    return found


def _rows_of(file: Path) -> Iterator[list[str]]:
    try:
        with file.open("rb") as raw, damage_named(raw, str(file), "benchmark"):
            stream = open_stream(raw, str(file))
            if file.name.endswith(".json"):
                yield from _rows_of_json(stream, file)
                return
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield texts_of(_decode(line, f"{file}:{number}"))
    except SourceDamaged as error:
        raise SpecError(f"{file} is damaged or cut off; replace it with a whole copy") from error


def _rows_of_json(stream: io.BufferedReader, file: Path) -> Iterator[list[str]]:
    """A .json holds a list of rows, or lines after all."""
    data = stream.read()
    if data.lstrip()[:1] == b"[":
        for row in _decode(data, str(file)):
            yield texts_of(row)
        return
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield texts_of(_decode(line, f"{file}:{number}"))


def _decode(data: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{where} is no JSON ({error}); mend or remove it") from None
