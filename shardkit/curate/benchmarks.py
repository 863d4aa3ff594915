"""Rows of benchmarks as texts: from a dataset of ours or from files of JSON lines.

Here: reading them, which fields of a row are texts, what identifies a benchmark.
Elsewhere: what is done with the texts (ngrams.py).
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
from shardkit.errors import SourceDamaged, SpecError
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.sources.compressed import damage_named, open_stream
from shardkit.store import fs
from shardkit.store.layout import POINTER_PATH

LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json")
NO_TEXT = frozenset(
    {"id", "uuid", "url", "source", "license", "licence", "version", "split", "subset", "task_id", "canary", "index"}
)
"""Fields of rows that say nothing of what is asked."""


class Benchmark(NamedTuple):
    """A benchmark by the name that reports give it; `digest` is of its content."""

    name: str
    digest: str
    where: str


def open_benchmarks(places: Sequence[str]) -> tuple[Benchmark, ...]:
    """Benchmarks in the order given; of several with one name the later ones get a number.

    Raises SpecError (nothing there, one given twice), NotADataset, ShardDamaged.
    """
    found: list[Benchmark] = []
    for benchmark in map(_open, places):
        if any(benchmark.digest == other.digest for other in found):
            raise SpecError(f"{benchmark.where} is given twice, or holds the same rows as another benchmark")
        names = {other.name for other in found}
        free = (f"{benchmark.name}-{number}" for number in itertools.count(2))
        name = benchmark.name if benchmark.name not in names else next(one for one in free if one not in names)
        found.append(benchmark._replace(name=name))
    return tuple(found)


def read_rows(benchmark: Benchmark) -> Iterator[list[str]]:
    """The texts of each row, in order. Raises SpecError (a line that is no object), SourceDamaged, ShardDamaged."""
    files = _files(benchmark.where)
    if files is None:
        dataset = _dataset(benchmark.where)
        for item in dataset:
            spoken = [(role, plain_text(content)) for role, content in turns(item.sample)]
            yield [text for role, text in spoken if role != "system"]
        return
    for file in files:
        yield from _rows_of(file)


def texts_of(value: Any) -> list[str]:
    """The texts in a row: each string, and each list of strings as one; names of NO_TEXT are passed over."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            return texts_of("\n".join(value))
        return [text for part in value for text in texts_of(part)]
    if isinstance(value, dict):
        return [text for name, part in value.items() if name.lower() not in NO_TEXT for text in texts_of(part)]
    return []


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
            f"--against {place}: found no benchmark; wanted a dataset, or a file or folder of {', '.join(LINES)}"
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
