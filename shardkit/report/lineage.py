"""Where one sample comes from: source, revision, row, every step, licence, and what became of it since.

Here: the facts, gathered from the record and from the chain of versions.
Elsewhere: the sample itself (show.py), all licences (licences.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from shardkit.curate.derive import ancestry
from shardkit.curate.omit import explain
from shardkit.errors import SpecError
from shardkit.read.dataset import Dataset
from shardkit.read.find import find_place
from shardkit.read.item import Item
from shardkit.read.shapes import record_to_show
from shardkit.records.sample import Sample
from shardkit.spec.licences import LicenceClass, classify
from shardkit.store.layout import LaneRecord, Manifest, ShardEntry, SourceRecord
from shardkit.store.manifest import read_columns, read_split
from shardkit.store.scrub import scrub


class VersionNote(msgspec.Struct, frozen=True, kw_only=True):
    """One version that holds the sample or its shard: what made it, whether it has the sample, in which split.

    `why` it has not, where the version says so.
    """

    version: str
    made_by: str
    options: dict[str, Any] = {}
    present: bool = True
    split: str = ""
    why: str = ""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a sample's way. `configuration` is the digest of the plan; versions the newest first."""

    key: str
    id: str
    dataset: str
    source: str
    kind: str
    revision: str
    row: str
    licence: str
    licence_class: LicenceClass
    configuration: str
    steps: tuple[str, ...]
    toolchain: dict[str, str]
    decision: str
    provenance: dict[str, str]
    shard: str
    ordinal: int
    lane: str
    versions: tuple[VersionNote, ...]

    def text(self) -> str:
        """Lines for a terminal."""
        rows = [("key", self.key), ("id", self.id), ("source", f"{self.source} ({self.kind})")]
        rows += [(name, value) for name, value in (("revision", self.revision), ("row", self.row)) if value]
        rows += [("licence", f"{self.licence or 'none given'} ({self.licence_class})")]
        rows += [("decision", self.decision)] if self.decision else []
        rows += [(f"step {at}", step) for at, step in enumerate(self.steps, 1)]
        rows += [("made with", ", ".join(f"{name} {version}" for name, version in self.toolchain.items()) or "-")]
        rows += [(name, value) for name, value in self.provenance.items()]
        rows += [("configuration", self.configuration)]
        rows += [("version", _version_line(note)) for note in self.versions]
        width = max(len(name) for name, _ in rows)
        below = "\n" + " " * (width + 2)
        return "\n".join(f"{name:<{width}}  {below.join(value.strip().splitlines())}" for name, value in rows)


def trace_sample(dataset: Dataset, key: str) -> Lineage:
    """The lineage of the sample whose key is `key` or the only one that begins so.

    One that the version leaves out is found in the version that still has it.
    Raises SpecError (no such key), ShardDamaged, StorageFailed.
    """
    chain = list(_chain(dataset))
    home, item = _find(chain, key)
    sample, manifest = record_to_show(item), home.manifest
    entry = manifest.shards[item.shard]
    source = next((one for one in manifest.plan.sources if one.name == entry.source), None)
    lane = next((one for one in manifest.plan.lanes if one.name == entry.lane), None)
    rest = {name: text for name, text in sorted(sample.provenance.items()) if name not in ("revision", "position")}
    return Lineage(
        key=item.key,
        id=sample.id,
        dataset=dataset.url,
        source=sample.source,
        kind=source.kind if source else "",
        revision=sample.provenance.get("revision", source.revision if source else ""),
        row=sample.provenance.get("position", ""),
        licence=sample.licence,
        licence_class=classify(sample.licence),
        configuration=manifest.plan_digest,
        steps=tuple(_steps(source, lane, entry, item, sample)),
        toolchain=source.toolchain if source else {},
        decision=source.decision if source else "",
        provenance=rest,
        shard=entry.shard.digest,
        ordinal=item.ordinal,
        lane=entry.lane,
        versions=tuple(_notes(chain, entry, item)),
    )


def _chain(dataset: Dataset) -> Iterator[Dataset]:
    """The dataset at its version and at those that it comes from, as far as they are still there."""
    yield dataset
    earlier = ancestry(dataset.store, dataset.version, dataset.manifest)
    next(earlier)  # the dataset itself
    for version, manifest in earlier:
        yield Dataset(dataset.store, version, manifest, read_columns(dataset.store, manifest))


def _find(chain: list[Dataset], key: str) -> tuple[Dataset, Item]:
    first: SpecError | None = None
    for one in chain:
        try:
            shard, ordinal = find_place(one, key, shortened=True)
        except SpecError as error:
            first = first or error
        else:
            return one, one.fetcher.read(one.fetcher.find_one(shard, ordinal))
    assert first is not None, "a chain has at least one version"
    raise first


def _steps(
    source: SourceRecord | None, lane: LaneRecord | None, entry: ShardEntry, item: Item, sample: Sample
) -> Iterator[str]:
    config = source.config if source else {}
    part = f", partition {lane.partition + 1} of {lane.partitions}" if lane and lane.partitions > 1 else ""
    if entry.url:
        yield f"indexed where it lies, in {scrub(entry.url)}"
    elif source is not None:
        yield f"read row {sample.provenance.get('position', '?')} of {source.name}{part}"
        options = {name: config[name] for name in ("columns", "options") if config.get(name)}
        yield f"normalised by {config.get('normalizer', '?')}{' ' + _json(options) if options else ''}"
    media = [name for name in item.members if name != "json"]
    if media:
        yield f"media stored as {', '.join(media)}" + (f" {_json(config['media'])}" if config.get("media") else "")
    yield f"sample {item.ordinal} of shard {entry.ordinal} ({entry.shard.digest}) of lane {entry.lane}"


def _notes(chain: list[Dataset], entry: ShardEntry, item: Item) -> Iterator[VersionNote]:
    for one in chain:
        place = _place(one, entry, item)
        if place is None:
            continue
        shard, ordinal = place
        step = one.manifest.step
        yield VersionNote(
            version=one.version,
            made_by=step.name if step else "build",
            options=step.options if step else {},
            present=ordinal not in one.omitted(shard),
            split=_split_of(one, one.manifest, shard, ordinal),
            why=explain(one, shard, ordinal),
        )


def _place(dataset: Dataset, entry: ShardEntry, item: Item) -> tuple[int, int] | None:
    """Shard and ordinal of the sample in a version: in its shard, or in the one that had it before an update."""
    where = [at for at, shard in enumerate(dataset.manifest.shards) if shard.shard == entry.shard]
    if where:
        return where[0], item.ordinal
    try:
        return find_place(dataset, item.key, shortened=False)
    except SpecError:
        return None


def _split_of(dataset: Dataset, manifest: Manifest, shard: int, ordinal: int) -> str:
    column = read_split(dataset.store, manifest)
    if column is None:
        return ""
    words, values = column.of_shard(shard, manifest.shards[shard].samples)
    return words[int(values[ordinal])]


def _version_line(note: VersionNote) -> str:
    told = f"{note.version} by {note.made_by}"
    told += f", split {note.split}" if note.split else ""
    return told if note.present else f"{told}, left out there" + (f": {note.why}" if note.why else "")


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
