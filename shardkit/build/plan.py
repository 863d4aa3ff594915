"""A spec made concrete: lanes, quotas, revisions pinned, tools found, fallbacks decided.

Here: making a plan, its digest, reading and writing .build/plan.json.
Elsewhere: whether a folder's plan still fits its spec (settle.py), quotas (quotas.py), running lanes (lane.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import blake3
import msgspec

from shardkit.build.quotas import SampleCount, lane_quotas, source_quotas
from shardkit.errors import ShardDamaged, SpecError
from shardkit.media.prepare import check_options, toolchain
from shardkit.records.normalize import check_normalizer, possible_modalities
from shardkit.records.rules import check_rules, rules_toolchain
from shardkit.sources.base import Pinned
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, BuildSpec, Limits
from shardkit.store import fs, shard
from shardkit.store.layout import BUILD_FOLDER, LaneRecord, PlanRecord, SourceRecord, Stored, canonical
from shardkit.store.publish import publish_bytes

NOT_BYTES = ("kind", "name", "sample", "limit", "ratio", "partitions", "fallback")
"""Fields of a source that its bytes do not depend on, or that stand elsewhere in the record."""

SPARED: dict[str, Any] = {"rules": None, "where": {}, "unless": {}, "gather": None}
"""Fields that are left out where they say nothing: plans that were made before there were such fields stand."""

MACHINE_LIMITS = ("memory_bytes",)
"""Limits that fit a build to a machine; no byte depends on them."""


class Pin(Stored, frozen=True, kw_only=True):
    """What pinning a source left besides its revision: its folder under .build/sources, and figures for estimates."""

    folder: str
    rows: int | None = None
    bytes: int | None = None
    reread: str = ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A source of the spec with the decision that concerns it: itself or its fallback, and its lanes' quotas."""

    spec: AnySource
    decision: str
    quotas: tuple[int | None, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that can run: the record that bytes depend on, and beside it where the sources' bytes lie.

    `specs` are those of the places in the record's order; `pins` by source name; `parent` is the version before an
    update.
    """

    record: PlanRecord
    specs: tuple[AnySource, ...]
    pins: dict[str, Pin]
    parent: str | None = None

    @property
    def digest(self) -> str:
        """BLAKE3-256 of the record's canonical JSON."""
        return digest_of(self.record)


class PlanFile(Stored, frozen=True, kw_only=True):
    """.build/plan.json: the record with its digest, the pins, the parent version; no location."""

    plan_digest: str
    plan: PlanRecord
    pins: dict[str, Pin]
    parent: str | None = None


def make_plan(spec: BuildSpec, *, sample: SampleCount, folder: Path, parent: str | None = None) -> Plan:
    """The plan of a spec, every source looked at and pinned into a fresh folder under `folder`.

    Raises SpecError (a normaliser, tool, folder or source that is not as it should be) and SourceFailed.
    """
    places = decide_places(spec, sample)
    pinned = {place.spec.name: _pin(place, spec, folder) for place in places}
    sources = tuple(_record(place, pinned[place.spec.name][1]) for place in places)
    pins = {name: pin for name, (pin, _) in pinned.items()}
    record = _plan_record(spec, places, sources)
    return Plan(record=record, specs=tuple(place.spec for place in places), pins=pins, parent=parent)


def outline(spec: BuildSpec, places: tuple[Place, ...]) -> PlanRecord:
    """The plan as far as it can be told without looking at the sources: no revisions, no toolchains."""
    return _plan_record(spec, places, tuple(_record(place, Pinned(revision="")) for place in places))


def strip(record: PlanRecord) -> PlanRecord:
    """A plan's record reduced to what `outline` tells."""
    sources = tuple(msgspec.structs.replace(entry, revision="", toolchain={}) for entry in record.sources)
    bare = msgspec.structs.replace(record, sources=sources)
    lanes = tuple(_named(lane, entry, bare) for lane, entry in zip(record.lanes, _sources_of_lanes(bare), strict=True))
    return msgspec.structs.replace(bare, lanes=lanes)


def decide_places(
    spec: BuildSpec, sample: SampleCount, stored: Mapping[str, SourceRecord] | None = None
) -> tuple[Place, ...]:
    """Each source or its fallback, with quotas. What a stored plan decided stays as it is.

    Under `--sample` a source has one lane, so that the number is met exactly wherever there are so many samples.
    Raises SpecError.
    """
    places = tuple(
        _place(source, quota, sample is not None, stored or {})
        for source, quota in zip(spec.sources, source_quotas(spec, sample), strict=True)
    )
    names = [place.spec.name for place in places]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"a fallback has the name of another source: {', '.join(twice)}; name it differently")
    return places


def config_of(spec: AnySource) -> dict[str, Any]:
    """A source's configuration as far as its bytes depend on it: no location, no quota."""
    config: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    silent = [name for name, nothing in SPARED.items() if getattr(spec, name) == nothing]
    for name in (*NOT_BYTES, *spec.LOCATIONS, *silent):
        config.pop(name, None)
    return config


def toolchain_of(spec: AnySource, source_toolchain: Mapping[str, str]) -> dict[str, str]:
    """Versions of all that makes the bytes of a source's lanes."""
    found = {**source_toolchain, **toolchain(possible_modalities(spec), spec.media), **shard.toolchain()}
    found |= rules_toolchain(spec.rules)
    return dict(sorted(found.items()))


def digest_of(record: PlanRecord) -> str:
    """A plan's digest: BLAKE3-256 of its canonical JSON in hex."""
    return blake3.blake3(canonical(record)).hexdigest()


def write_plan(root: Path, plan: Plan) -> None:
    """Make `plan` the folder's plan; durable when this returns."""
    content = PlanFile(plan_digest=plan.digest, plan=plan.record, pins=plan.pins, parent=plan.parent)
    publish_bytes(plan_path(root), msgspec.json.format(canonical(content), indent=2) + b"\n")


def read_plan(root: Path) -> PlanFile | None:
    """The folder's plan; None where there is none. Raises ShardDamaged."""
    path = plan_path(root)
    try:
        content = msgspec.json.decode(b"".join(fs.read_chunks(path)), type=PlanFile)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ShardDamaged(f"{path} is damaged: {error}; build into a new folder with --out") from None
    if digest_of(content.plan) != content.plan_digest:
        raise ShardDamaged(f"{path} is damaged: it does not have its digest; build into a new folder with --out")
    return content


def plan_path(root: Path) -> Path:
    """Where a folder's plan lies."""
    return root / BUILD_FOLDER / "plan.json"


def remove_strays(root: Path) -> None:
    """Remove what sources pinned for plans that never came to be. Under the lock."""
    stored = read_plan(root)
    named = {pin.folder for pin in stored.pins.values()} if stored else set()
    folder = root / BUILD_FOLDER / "sources"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in named and path.is_dir():
            fs.remove_tree(path)


def _place(source: AnySource, quota: int | None, one_lane: bool, stored: Mapping[str, SourceRecord]) -> Place:
    chosen, decision = _decided(source, stored) or _choose(source)
    return Place(spec=chosen, decision=decision, quotas=lane_quotas(quota, 1 if one_lane else chosen.partitions))


def _decided(source: AnySource, stored: Mapping[str, SourceRecord]) -> tuple[AnySource, str] | None:
    for candidate in _candidates(source):
        record = stored.get(candidate.name)
        if record and (record.kind, record.config) == (kind_of(candidate), config_of(candidate)):
            return candidate, record.decision
    return None


def _choose(source: AnySource) -> tuple[AnySource, str]:
    missing: list[str] = []
    for candidate in _candidates(source):
        check_normalizer(candidate)
        check_options(candidate.media)
        lacking = open_source(candidate, 0).missing_tool() or check_rules(candidate.rules)
        if not lacking:
            return candidate, "; ".join(missing) + f"; taken: fallback {label(candidate)}" if missing else ""
        missing.append(f"{label(candidate)}: {lacking}")
    raise SpecError(f"source {source.name} cannot run here: {'; '.join(missing)}; install it, or give a fallback")


def _candidates(source: AnySource) -> Iterator[AnySource]:
    candidate: AnySource | None = source
    while candidate is not None:
        yield candidate
        candidate = candidate.fallback


def label(spec: AnySource) -> str:
    """A source in a message: its name and what makes it."""
    return f"{spec.name} ({getattr(spec, 'generator', kind_of(spec))})"


def kind_of(spec: AnySource) -> str:
    """The kind as it stands in the spec."""
    return str(type(spec).__struct_config__.tag)


def _pin(place: Place, spec: BuildSpec, folder: Path) -> tuple[Pin, Pinned]:
    name = _new_name(folder, place.spec.name)
    fs.make_folders(folder / name)
    pinned = open_source(place.spec, spec.seed, spec.limits).pin(folder / name)
    rows = None if place.spec.gather else pinned.rows  # how many are made of them is seen on the way
    return Pin(folder=name, rows=rows, bytes=pinned.bytes, reread=pinned.reread), pinned


def _new_name(folder: Path, name: str) -> str:
    number = 0
    while (folder / f"{name}.{number}").exists():
        number += 1
    return f"{name}.{number}"


def _record(place: Place, pinned: Pinned) -> SourceRecord:
    spec = place.spec
    return SourceRecord(
        name=spec.name,
        kind=kind_of(spec),
        config=config_of(spec),
        revision=pinned.revision,
        toolchain=toolchain_of(spec, pinned.toolchain) if pinned.revision else {},
        decision=place.decision,
    )


def _plan_record(spec: BuildSpec, places: tuple[Place, ...], sources: tuple[SourceRecord, ...]) -> PlanRecord:
    lanes = tuple(
        LaneRecord(name="", source=place.spec.name, partition=at, partitions=len(place.quotas), quota=quota)
        for place in places
        for at, quota in enumerate(place.quotas)
    )
    bare = PlanRecord(
        name=spec.name,
        seed=spec.seed,
        duplicates=spec.duplicates,
        limits=_limits_of(spec.limits),
        sources=sources,
        lanes=lanes,
    )
    named = tuple(_named(lane, entry, bare) for lane, entry in zip(lanes, _sources_of_lanes(bare), strict=True))
    return msgspec.structs.replace(bare, lanes=named)


def _named(lane: LaneRecord, source: SourceRecord, plan: PlanRecord) -> LaneRecord:
    """A lane's name ends with a digest of all that its bytes depend on.

    So commits of another plan are never taken for this one's, and an update finds the lanes that it can reuse.
    """
    same = msgspec.structs.replace(source, decision="")
    identity = [plan.seed, plan.limits, same, lane.partition, lane.partitions, lane.quota]
    digest = blake3.blake3(msgspec.json.encode(identity, order="deterministic")).hexdigest()
    return msgspec.structs.replace(lane, name=f"{lane.source}-{lane.partition:03d}-{digest[:12]}")


def _sources_of_lanes(plan: PlanRecord) -> Iterator[SourceRecord]:
    by_name = {source.name: source for source in plan.sources}
    return (by_name[lane.source] for lane in plan.lanes)


def _limits_of(limits: Limits) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(limits)
    return {name: value for name, value in values.items() if name not in MACHINE_LIMITS}
