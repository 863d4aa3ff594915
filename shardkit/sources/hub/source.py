"""A data set of the Hub as a source: pinned to a commit and a list of files, then streamed.

Here: from the spec to the files, what is kept of it, which reader takes it.
Elsewhere: which files make up a split (layout.py), the readers (parquet.py, streaming.py, and jsonl.py, csv.py and
json_list.py over HubFiles), what goes wrong (messages.py).
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from shardkit.errors import Refused, SourceChanged, SourceDamaged, SpecError
from shardkit.records.row import Cursor
from shardkit.sources.base import Pinned, Step
from shardkit.sources.compressed import damage_named, is_compressed, open_stream
from shardkit.sources.csv import Csv
from shardkit.sources.hub import messages
from shardkit.sources.hub.archives import Sizes, join, open_stems, pin_archives, pin_stems, rereads
from shardkit.sources.hub.files import STEMS, Choice, choose
from shardkit.sources.hub.media import Media
from shardkit.sources.hub.messages import Asker
from shardkit.sources.hub.parquet import Footers, RemoteParquet
from shardkit.sources.hub.remote import open_remote
from shardkit.sources.hub.streaming import Streaming
from shardkit.sources.json_list import Json
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.listing import Entry, read_listing, read_pin, write_listing, write_private
from shardkit.sources.places import Fits, Selected
from shardkit.sources.sampling import ReadsOn, Scanned, scan_rows
from shardkit.sources.strict_json import parse_object
from shardkit.sources.tar_files import TarFiles
from shardkit.sources.walk import shown
from shardkit.spec import CsvSource, HubSource, JsonlSource, JsonSource, Limits, ShardsSource
from shardkit.store.hub import HubPlace, HubStore
from shardkit.store.hub_login import find_endpoint, is_offline
from shardkit.store.patience import Patience

PIN = "pin.json"
PATIENCE = Patience(deadline_seconds=330.0, longest_wish_seconds=300.0)
"""The Hub counts requests over windows of five minutes: who has had too many waits for the next one at most once."""
SNIFF_BYTES = 16 << 10
WRAPPED = re.compile(rb"\{\s*\"data\"\s*:\s*\[\s*\{")


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What was pinned besides the listing: the data set's present name, the commit, the format, what csv needs."""

    dataset: str
    commit: str
    format: str
    delimiter: str = ""


class HubFiles:
    """The files of the pinned commit as a place: see places.Place, and RemoteFile for `in_order`."""

    def __init__(self, asker: Asker, *, in_order: bool = True) -> None:
        self._asker, self._in_order = asker, in_order

    def pin(self, folder: Path, selected: Selected, fits: Fits = lambda size: True) -> tuple[str, int, int]:
        """Hub.pin has written the listing already."""
        raise NotImplementedError

    def open(self, entry: Entry) -> io.BufferedReader:
        """See Place."""
        return open_remote(self._asker, entry, in_order=self._in_order)


class Reader(Protocol):
    """What reads the listed files of one format."""

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """See Source."""
        ...


class Opening(NamedTuple):
    """What a reader is made of."""

    spec: HubSource
    pin: Pin
    asker: Asker
    limits: Limits

    @property
    def files(self) -> HubFiles:
        """The place; parquet is read here and there, all else in order."""
        return HubFiles(self.asker, in_order=self.pin.format != "parquet")

    @property
    def members(self) -> HubFiles:
        """The place of files that hold media: directories and tars are long, and read in order."""
        return HubFiles(self.asker)

    @property
    def media(self) -> Media:
        """Media that rows name by their paths."""
        return Media(self.asker, self.limits.member_bytes)


READERS: dict[str, Callable[[Opening], Reader]] = {
    "parquet": lambda opening: RemoteParquet(opening.spec, opening.files, opening.media),
    "jsonl": lambda opening: Jsonl(_jsonl(opening.spec), opening.files),
    "json": lambda opening: Json(_json(opening.spec), opening.files),
    "csv": lambda opening: Csv(_csv(opening.spec, opening.pin), opening.files),
    "tar": lambda opening: TarFiles(_tars(opening.spec), opening.files, ("**",), opening.limits),
    "datasets": lambda opening: Streaming(opening.spec, opening.pin.commit, opening.asker, opening.media),
}
"""From a pinned format to what reads it. Another format is a row here and one in layout.OURS."""


class Hub:
    """A `hub` source."""

    def __init__(self, spec: HubSource, limits: Limits) -> None:
        self.spec, self._limits = spec, limits
        self._asked: Reader | None = None

    def missing_tool(self) -> str:
        """The package `datasets`, where the spec asks for it."""
        lacks = self.spec.reader == "datasets" and importlib.util.find_spec("datasets") is None
        return "datasets (pip install 'shardkit[hub]')" if lacks else ""

    def pin(self, folder: Path) -> Pinned:
        """Find the commit that `revision` names now, list the files of the split. The revision is the commit.

        Raises SpecError (no such config, split or file, a program, nothing in it), SourceUnavailable (gated, private,
        gone, offline), SourceFailed (too many requests, no answer).
        """
        self._check_online()
        asker, commit = self._resolve()
        choice = choose(self.spec, asker)
        kind = choice.format if choice.format == STEMS else self._format(choice, asker)
        pin = Pin(dataset=asker.dataset, commit=commit, format=kind, delimiter=choice.delimiter)
        opening = Opening(self.spec, pin, asker, self._limits)
        try:
            sizes = self._pin_files(folder, choice, opening)
        except SourceDamaged as error:
            raise SpecError(str(error)) from None
        write_private(folder / PIN, [msgspec.json.encode(pin)])
        renamed = asker.dataset != self.spec.dataset
        return Pinned(
            revision=commit,
            toolchain=Streaming.toolchain() if pin.format == "datasets" else {},
            rows=sizes.rows,
            bytes=sizes.bytes,
            reread=", ".join(filter(None, (_reread(pin, choice.entries), rereads(self.spec, folder)))),
            note=f"{self.spec.dataset} is called {asker.dataset} on the Hub now" if renamed else "",
        )

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows in the order of the listing; cursors are the reader's. Raises as Source."""
        self._check_online()
        yield from self._reader(folder).rows(folder, partition, partitions, cursor)

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """See sampling.Scans: of parquet only the wanted columns are fetched."""
        self._check_online()
        yield from scan_rows(self._reader(folder), folder, columns)

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """See sampling.ReadsOn."""
        self._asked = self._asked or self._reader(folder)
        return isinstance(self._asked, ReadsOn) and self._asked.reads_on(folder, at, wanted)

    def footers(self, folder: Path, most: int) -> Footers | None:
        """The schema of pinned parquet files, and their rows where there are at most `most` files; else None."""
        opening = self._opening(folder)
        reader = READERS[opening.pin.format](opening) if opening.pin.format == "parquet" else None
        return reader.footers(folder, most) if isinstance(reader, RemoteParquet) else None

    def _reader(self, folder: Path) -> Reader:
        opening = self._opening(folder)
        if opening.pin.format == STEMS:
            return open_stems(self.spec, folder, opening.members, self._limits.member_bytes)
        reader = READERS[opening.pin.format](opening)
        if self.spec.archives:
            return join(reader, self.spec, folder, opening.members, self._limits.member_bytes)
        return reader

    def _opening(self, folder: Path) -> Opening:
        pin = self._read_pin(folder)
        asker = self._asker(HubPlace("datasets", pin.dataset, pin.commit, ""), PATIENCE)
        return Opening(self.spec, pin, asker, self._limits)

    def _pin_files(self, folder: Path, choice: Choice, opening: Opening) -> Sizes:
        """The listing, and the tables of archives. Raises SpecError, SourceDamaged."""
        if choice.format == STEMS:
            return pin_stems(self.spec, folder, choice.entries, opening.members)
        _, _, total = write_listing(folder, choice.entries, self.spec.name)
        self._check(folder, opening)
        if not self.spec.archives:
            return Sizes(total)
        if opening.pin.format == "datasets":
            raise SpecError(
                f"source {self.spec.name}: `archives` are joined to rows in parquet, jsonl, json and csv alone; name "
                "such files as `data_files`"
            )
        reader = READERS[opening.pin.format](opening)
        found = pin_archives(self.spec, opening.asker, folder, opening.members, reader)
        return Sizes(total + found.bytes, found.rows)

    def _check_online(self) -> None:
        if self.spec.offline or is_offline():
            setting = "`offline` is true" if self.spec.offline else "HF_HUB_OFFLINE is set"
            raise messages.offline(self.spec.name, self.spec.dataset, setting)

    def _asker(self, place: HubPlace, patience: Patience) -> Asker:
        store = HubStore(place, patience, endpoint=self.spec.endpoint)
        page = f"{self.spec.endpoint.rstrip('/') or find_endpoint()}/datasets/{place.repository}"
        return Asker(self.spec.name, place.repository, store, page)

    def _resolve(self) -> tuple[Asker, str]:
        """Who asks for the repository under its present name, and its commit."""
        hasty = msgspec.structs.replace(PATIENCE, wait_for_network=False)
        asked = self._asker(HubPlace("datasets", self.spec.dataset, self.spec.revision, ""), hasty)
        try:
            with asked.asking():
                info = asked.store.info()
        except SourceChanged as error:  # there was no plan yet
            raise SpecError(str(error)) from None
        name = info.id or self.spec.dataset
        return self._asker(HubPlace("datasets", name, info.sha, ""), PATIENCE), info.sha

    def _format(self, choice: Choice, asker: Asker) -> str:
        """Which reader takes the files; that of .json is told by how the first of them begins."""
        found = choice.format
        if found == "json" and self.spec.reader != "datasets":
            found = self._sniff(choice.entries[0], asker)
        strange = not found or bool(choice.strange)
        if self.spec.reader == "datasets" or (self.spec.reader == "auto" and strange):
            return "datasets"
        if not found:
            kinds = messages.listed(sorted({shown(entry.path).rpartition(".")[2] for entry in choice.entries}))
            raise SpecError(
                f"source {self.spec.name}: {asker.dataset} holds files that are not read here ({kinds}); leave out "
                "`reader`, or name parquet, jsonl, json, csv or tar files as `data_files`"
            )
        return found

    def _sniff(self, entry: Entry, asker: Asker) -> str:
        """`json` for a list, also under `data`, `jsonl` for an object a line; empty for anything else."""
        path = shown(entry.path)
        with HubFiles(asker).open(entry) as raw, damage_named(raw, path, self.spec.name):
            stream = open_stream(raw, path)
            start = stream.read(SNIFF_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
            if start.startswith(b"[") or WRAPPED.match(start):
                return "json"
            line = start.partition(b"\n")[0]
            if b"\n" not in start and len(start) >= SNIFF_BYTES // 2:
                line = start + stream.readline(self.spec.record_bytes)
        try:
            parse_object(line.rstrip(b"\r\n"))
        except Refused:
            return ""
        return "jsonl"

    def _check(self, folder: Path, opening: Opening) -> None:
        """Open what is read first, so that what cannot be read is said by the plan and not by a lane."""
        reader = READERS[opening.pin.format](opening)
        entry = next(read_listing(folder, self.spec.name))
        with opening.files.open(entry) as stream:
            stream.read(1)
        if isinstance(reader, (RemoteParquet, Streaming)):
            reader.check(entry)

    def _read_pin(self, folder: Path) -> Pin:
        return read_pin(folder / PIN, Pin, self.spec.name)


def _reread(pin: Pin, entries: Sequence[Entry]) -> str:
    if pin.format == "datasets":
        return "the open file"
    if pin.format == "parquet":
        return "the open row group"
    packed = any(is_compressed(shown(entry.path)) for entry in entries)
    return "the decompressed start of the open .gz or .zst file" if packed else ""


def _jsonl(spec: HubSource) -> JsonlSource:
    return JsonlSource(
        name=spec.name, normalizer=spec.normalizer, columns=spec.columns, path="", line_bytes=spec.record_bytes
    )


def _json(spec: HubSource) -> JsonSource:
    return JsonSource(
        name=spec.name, normalizer=spec.normalizer, columns=spec.columns, path="", item_bytes=spec.record_bytes
    )


def _tars(spec: HubSource) -> ShardsSource:
    return ShardsSource(name=spec.name, normalizer=spec.normalizer, columns=spec.columns, path=".")


def _csv(spec: HubSource, pin: Pin) -> CsvSource:
    return CsvSource(
        name=spec.name,
        normalizer=spec.normalizer,
        columns=spec.columns,
        path="",
        delimiter=pin.delimiter,
        quote=spec.quote,
        record_bytes=spec.record_bytes,
    )
