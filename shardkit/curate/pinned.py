"""Benchmarks behind sources, such as entries of the catalog: pinned to a revision, read for their texts alone.

Here: pinning one in a folder where it is found again, the texts of its rows.
Elsewhere: benchmarks of all kinds (benchmarks.py), the sources (the room sources), normalising (records.normalize).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import blake3
import msgspec

from shardkit.build.plan import config_of, kind_of
from shardkit.curate.features import plain_text, turns
from shardkit.curate.row_texts import texts_of
from shardkit.errors import Refused, SourceChanged, SourceDamaged, SourceFailed, SourceUnavailable, SpecError
from shardkit.records.normalize import check_normalizer, only_texts, said_in
from shardkit.records.normalize.columns import MEDIA_TYPES
from shardkit.records.normalize.door import COMMON_ROLES
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import Passed, Step
from shardkit.sources.gather import gathered
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, BenchmarkSource
from shardkit.store import fs
from shardkit.store.layout import Stored
from shardkit.store.publish import publish_bytes

ATTEMPTS = 4
"""A source that fails is asked so often without a row in between."""

FIRST_DELAY = 0.25
SHOWN = frozenset((*MEDIA_TYPES["image"], *MEDIA_TYPES["video"]))
"""Types of media of which rows show something."""

NO_ANSWER = "cannot be reached"


class Pin(Stored, frozen=True, kw_only=True):
    """What was pinned: which of the source and its fallbacks (0 is itself), at which revision.

    `unreachable` says in place of these why it could not be had.
    """

    candidate: int = 0
    revision: str = ""
    unreachable: str = ""


class Pinned(NamedTuple):
    """A benchmark's source as it is read, where its pin lies, and its pin."""

    given: BenchmarkSource
    spec: AnySource
    folder: Path
    pin: Pin

    @property
    def digest(self) -> str:
        """BLAKE3-256 of all that its texts depend on."""
        said = [kind_of(self.spec), config_of(self.spec), self.pin.revision]
        return blake3.blake3(msgspec.json.encode(said, order="deterministic")).hexdigest()

    @property
    def dataset(self) -> str:
        """What its host calls it; empty for files and folders."""
        names = ("dataset", "repository", "url")
        return next((str(value) for name in names if (value := getattr(self.spec, name, ""))), "")


def pin_source(given: BenchmarkSource, folder: Path, skip: bool = False) -> Pinned:
    """The source of a benchmark, pinned below `folder`, where a second call finds it as it was.

    Its fallbacks are tried in turn. With `skip` one that cannot be reached is pinned as unreachable.
    Raises SpecError, SourceUnavailable (gated, gone, no permission, offline), SourceFailed.
    """
    place = folder / blake3.blake3(msgspec.json.encode(given, order="deterministic")).hexdigest()[:16]
    candidates = tuple(only_texts(spec) for spec in _candidates(given.source))
    pin = _read_pin(place)
    if pin is None or (pin.unreachable and not skip):
        try:
            pin = _pin(candidates, place)
        except SourceFailed as error:
            if not skip:
                raise
            pin = Pin(unreachable=(error.reason if isinstance(error, SourceUnavailable) else "") or NO_ANSWER)
        publish_bytes(_pin_path(place), msgspec.json.encode(pin))
    return Pinned(given, candidates[pin.candidate], place, pin)


def read_texts(pinned: Pinned) -> Iterator[list[str]]:
    """The texts of each row, in order; of one that its normaliser refuses (a withheld answer), those in its columns.

    Raises SourceFailed, SpecError.
    """
    shown = pinned.spec.media_type in SHOWN
    for step in _steps(pinned):
        row = step.row
        if not isinstance(row, Passed):
            texts = _texts(row, pinned) if isinstance(row, Row) else []
            yield together(texts) if shown else texts


def together(texts: list[str]) -> list[str]:
    """A question about a picture and its answer as one text: "How high?" alone is asked of a thousand others."""
    return ["\n".join(texts)] if texts else []


def _texts(row: Row, pinned: Pinned) -> list[str]:
    spec = pinned.spec
    try:
        draft = said_in(row, spec, pinned.pin.revision)
    except Refused:
        common = {spec.columns.get(role) for role in COMMON_ROLES}
        return texts_of({name: value for name, value in row.fields.items() if name not in common})
    return [plain_text(content) for role, content in turns(draft) if role != "system"]


def _steps(pinned: Pinned) -> Iterator[Step]:
    """All rows; a failure is tried again where it happened, as a lane of a build does."""
    source = gathered(open_source(pinned.spec, 0), pinned.spec)
    cursor: Cursor | None = None
    failures = 0
    while True:
        try:
            for step in source.rows(pinned.folder, 0, 1, cursor):
                cursor, failures = step.cursor, 0
                yield step
            return
        except SourceChanged:
            raise
        except SourceDamaged as error:
            raise SpecError(str(error)) from None
        except SourceFailed:
            failures += 1
            if failures >= ATTEMPTS:
                raise
            time.sleep(FIRST_DELAY * 2**failures)


def _pin(candidates: tuple[AnySource, ...], place: Path) -> Pin:
    failed: list[SourceUnavailable] = []
    lacking: list[str] = []
    for at, spec in enumerate(candidates):
        check_normalizer(spec)
        source = open_source(spec, 0)
        if missing := source.missing_tool():
            lacking.append(f"{spec.name} needs {missing}")
            continue
        if place.exists():
            fs.remove_tree(place)
        fs.make_folders(place)
        try:
            return Pin(candidate=at, revision=source.pin(place).revision)
        except SourceUnavailable as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise SourceUnavailable("; ".join(map(str, failed)), "; ".join(error.reason for error in failed))
    raise SpecError(f"benchmark {candidates[0].name} cannot be read here: {'; '.join(lacking)}")


def _candidates(spec: AnySource | None) -> Iterator[AnySource]:
    while spec is not None:
        yield spec
        spec = spec.fallback


def _pin_path(place: Path) -> Path:
    return place / "benchmark.json"


def _read_pin(place: Path) -> Pin | None:
    try:
        return msgspec.json.decode(_pin_path(place).read_bytes(), type=Pin)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
