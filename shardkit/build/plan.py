"""A spec made concrete: lanes, quotas, revisions pinned, tools found, fallbacks decided.

Here: making a plan, its digest, reading and writing .build/plan.json.
Elsewhere: whether a folder's plan still fits its spec (settle.py), quotas (quotas.py), running lanes (lane.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import blake3
import msgspec

from shardkit.build.quotas import Bound, SampleCount, lane_parts, left_out, source_bounds, sources_taken
from shardkit.errors import ShardDamaged, SourceUnavailable, SpecError
from shardkit.media.prepare import check_options, toolchain
from shardkit.records.normalize import check_normalizer, possible_modalities
from shardkit.records.rules import check_rules, rules_toolchain
from shardkit.sources.base import Pinned
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, BuildSpec, Limits
from shardkit.spec.sampling import FirstRows
from shardkit.store import fs, shard
from shardkit.store.layout import BUILD_FOLDER, LaneRecord, PlanRecord, SourceRecord, Stored, canonical
from shardkit.store.publish import publish_bytes

NOT_BYTES = (
    "kind", "name", "sample", "limit", "ratio", "group", "budget_bytes", "partitions", "content_warning", "each",
    "fallback", "held_out",
)  # fmt: skip
"""Fields of a source that its bytes do not depend on, or that stand elsewhere in the record."""

ALWAYS_SAID = frozenset({
    "normalizer", "columns", "options", "domain", "category", "licence", "media_type", "language", "codec", "media",
    "include", "exclude", "min_bytes", "max_bytes", "line_bytes", "revision", "extensions", "min_characters",
    "max_characters", "generator", "count", "seed", "parameters",
})  # fmt: skip
"""Fields that a plan says even where they have their default. Every other one is left out where it has, so that a new
field changes no plan that was made before there was one."""

MACHINE_LIMITS = ("memory_bytes",)
"""Limits that fit a build to a machine; no byte depends on them."""


class Pin(Stored, frozen=True, kw_only=True):
    """What pinning a source left besides its revision: its folder under .build/sources, and figures for estimates."""

    folder: str
    rows: int | None = None
    bytes: int | None = None
    reread: str = ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A source of the spec with the decision that concerns it: itself or its fallback, its bounds, how many lanes."""

    spec: AnySource
    decision: str
    bound: Bound
    partitions: int


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
    settled = [
        _settle(source, bound, sample is not None, spec, folder)
        for source, bound in zip(sources_taken(spec), source_bounds(spec, sample), strict=True)
    ]
    places = _distinct(tuple(place for place, _, _ in settled))
    sources = tuple(_record(place, pinned) for place, _, pinned in settled)
    pins = {place.spec.name: pin for place, pin, _ in settled}
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


def without_lent(record: PlanRecord) -> PlanRecord:
    """A plan as it was before any round of lending."""
    return msgspec.structs.replace(record, lanes=tuple(lane for lane in record.lanes if not lane.after))


def decide_places(
    spec: BuildSpec, sample: SampleCount, stored: Mapping[str, SourceRecord] | None = None
) -> tuple[Place, ...]:
    """Each source or its fallback, with quotas. What a stored plan decided stays as it is.

    Under `--sample` a source has one lane, so that the number is met exactly wherever there are so many samples.
    Raises SpecError.
    """
    return _distinct(
        tuple(
            _place(source, bound, sample is not None, stored or {})
            for source, bound in zip(sources_taken(spec), source_bounds(spec, sample), strict=True)
        )
    )


def _distinct(places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places themselves; raises SpecError where a fallback has another source's name."""
    names = [place.spec.name for place in places]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"a fallback has the name of another source: {', '.join(twice)}; name it differently")
    return places


def config_of(spec: AnySource) -> dict[str, Any]:
    """A source's configuration as far as its bytes depend on it: no location, no quota."""
    config: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    for field in msgspec.structs.fields(spec):
        default = field.default_factory() if callable(field.default_factory) else field.default
        silent = field.name not in ALWAYS_SAID and getattr(spec, field.name) == default
        if silent or field.name in NOT_BYTES or field.name in spec.LOCATIONS:
            config.pop(field.name, None)
    config.pop("kind", None)
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


def _place(source: AnySource, bound: Bound, one_lane: bool, stored: Mapping[str, SourceRecord]) -> Place:
    chosen, decision = _decided(source, stored) or _choose(source)
    return _place_of(chosen, decision, bound, one_lane)


def _place_of(spec: AnySource, decision: str, bound: Bound, one_lane: bool) -> Place:
    return Place(spec=spec, decision=decision, bound=bound, partitions=1 if one_lane else spec.partitions)


def _settle(
    source: AnySource, bound: Bound, one_lane: bool, spec: BuildSpec, folder: Path
) -> tuple[Place, Pin, Pinned]:
    """A source, pinned; where its tool is missing or it cannot be had from here, its fallback, and why."""
    failed: list[str] = []
    errors: list[SourceUnavailable] = []
    for candidate in _candidates(source):
        lacking = _lacking(candidate)
        if lacking:
            failed.append(f"{label(candidate)}: {lacking}")
            continue
        place = _place_of(candidate, _decision(failed, candidate), bound, one_lane)
        try:
            return place, *_pin(place, spec, folder)
        except SourceUnavailable as error:
            failed.append(f"{label(candidate)}: {error.reason}")
            errors.append(error)
    if len(failed) == len(errors) == 1:
        raise errors[0]
    if errors:
        told = "; ".join([*failed, *(str(error) for error in errors)])
        raise SourceUnavailable(f"source {source.name} and its fallbacks cannot be had from here: {told}", "none")
    raise _cannot_run(source, failed)


def _decided(source: AnySource, stored: Mapping[str, SourceRecord]) -> tuple[AnySource, str] | None:
    for candidate in _candidates(source):
        record = stored.get(candidate.name)
        if record and (record.kind, record.config) == (kind_of(candidate), config_of(candidate)):
            return candidate, record.decision
    return None


def _choose(source: AnySource) -> tuple[AnySource, str]:
    missing: list[str] = []
    for candidate in _candidates(source):
        lacking = _lacking(candidate)
        if not lacking:
            return candidate, _decision(missing, candidate)
        missing.append(f"{label(candidate)}: {lacking}")
    raise _cannot_run(source, missing)


def _lacking(candidate: AnySource) -> str:
    """The tool that a source misses here; raises SpecError where the source makes no sense."""
    check_normalizer(candidate)
    check_options(candidate.media)
    return open_source(candidate, 0).missing_tool() or check_rules(candidate.rules)


def _decision(failed: Sequence[str], taken: AnySource) -> str:
    return "; ".join(failed) + f"; taken: fallback {label(taken)}" if failed else ""


def _cannot_run(source: AnySource, missing: Sequence[str]) -> SpecError:
    return SpecError(f"source {source.name} cannot run here: {'; '.join(missing)}; install it, or give a fallback")


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
    try:
        pinned = open_source(place.spec, spec.seed, spec.limits).pin(folder / name)
    except SourceUnavailable:
        fs.remove_tree(folder / name)
        raise
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
        decision="; ".join(part for part in (place.decision, pinned.note) if part),
        held_out=spec.held_out,
    )


def _plan_record(spec: BuildSpec, places: tuple[Place, ...], sources: tuple[SourceRecord, ...]) -> PlanRecord:
    lanes = tuple(lane for place in places for lane in _lanes_of(place))
    bare = PlanRecord(
        name=spec.name,
        seed=spec.seed,
        duplicates=spec.duplicates,
        limits=_limits_of(spec.limits),
        sources=sources,
        lanes=lanes,
        left_out=left_out(spec),
    )
    named = tuple(_named(lane, entry, bare) for lane, entry in zip(lanes, _sources_of_lanes(bare), strict=True))
    return msgspec.structs.replace(bare, lanes=named)


def _lanes_of(place: Place) -> Iterator[LaneRecord]:
    bound, partitions = place.bound, place.partitions
    parts = (lane_parts(whole, partitions) for whole in (bound.quota, bound.budget, bound.lends))
    for at, (quota, budget, lends) in enumerate(zip(*parts, strict=True)):
        yield LaneRecord(
            name="",
            source=place.spec.name,
            partition=at,
            partitions=partitions,
            quota=quota,
            chosen=None if isinstance(place.spec.sampling, FirstRows) else bound.quota,
            budget=budget,
            lends=lends,
        )


def named_lane(lane: LaneRecord, plan: PlanRecord) -> LaneRecord:
    """A lane of a plan's source with its name."""
    return _named(lane, next(source for source in plan.sources if source.name == lane.source), plan)


def _named(lane: LaneRecord, source: SourceRecord, plan: PlanRecord) -> LaneRecord:
    """A lane's name ends with a digest of all that its bytes depend on.

    So commits of another plan are never taken for this one's, and an update finds the lanes that it can reuse.
    """
    same = msgspec.structs.replace(source, decision="", held_out=False)  # no byte of a lane depends on these
    identity = [plan.seed, plan.limits, same, lane.partition, lane.partitions, lane.quota]
    identity += [[name, value] for name in ("chosen", "budget", "after") if (value := getattr(lane, name))]
    digest = blake3.blake3(msgspec.json.encode(identity, order="deterministic")).hexdigest()
    return msgspec.structs.replace(lane, name=f"{lane.source}-{lane.partition:03d}-{digest[:12]}")


def _sources_of_lanes(plan: PlanRecord) -> Iterator[SourceRecord]:
    by_name = {source.name: source for source in plan.sources}
    return (by_name[lane.source] for lane in plan.lanes)


def _limits_of(limits: Limits) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(limits)
    return {name: value for name, value in values.items() if name not in MACHINE_LIMITS}
