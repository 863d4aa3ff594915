"""Which plan a folder's build follows: a new one, the one that it began with, or an update of it.

Here: comparing the spec with the folder's plan, refusing what does not fit, toolchains of what is left to do.
Elsewhere: making plans (plan.py), the lines of a diff (difference.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from shardkit.build.difference import diff_plans, diff_toolchains
from shardkit.build.plan import (
    Place,
    Plan,
    PlanFile,
    decide_places,
    digest_of,
    make_plan,
    outline,
    read_plan,
    remove_strays,
    strip,
    toolchain_of,
    without_lent,
    write_plan,
)
from shardkit.build.quotas import SampleCount
from shardkit.errors import NotADataset, PlanConflict
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, BuildSpec, GeneratedSource
from shardkit.store.layout import BUILD_FOLDER, Commit, SourceRecord
from shardkit.store.manifest import read_pointer
from shardkit.store.urls import open_store

Commits = Mapping[str, tuple[Commit, ...]]
Origin = Literal["new", "resumed", "updated", "lent"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asks for; `out` is the folder as the user named it."""

    spec: BuildSpec
    sample: SampleCount = None
    update: bool = False
    out: str = ""


def settle_plan(root: Path, wish: Wish, commits: Commits) -> tuple[Plan, Origin]:
    """The plan to follow, written to the folder before anything runs. Under the lock.

    Raises PlanConflict (another spec, another toolchain), SpecError, SourceFailed.
    """
    remove_strays(root)
    stored = read_plan(root)
    if stored is None:
        plan = make_plan(wish.spec, sample=wish.sample, folder=_pins_folder(root))
        write_plan(root, plan)
        return plan, "new"
    if wish.update:
        return _update(root, wish, stored)
    places = _same_places(root, wish, stored)
    plan = _resume(stored, places)
    _check_toolchains(root, wish.spec, plan, commits)
    return plan, "resumed"


def current_version(root: Path) -> str | None:
    """The version that the folder's pointer names, if it has one. Raises ShardDamaged."""
    try:
        return read_pointer(open_store(root)).version
    except NotADataset:
        return None


def lane_is_done(commits: Commits, lane: str) -> bool:
    """Whether a lane's last commit is its end."""
    own = commits.get(lane, ())
    return bool(own) and own[-1].done


def _update(root: Path, wish: Wish, stored: PlanFile) -> tuple[Plan, Origin]:
    """Look at all sources anew. Lanes whose name comes out the same keep their commits: see plan.lane names."""
    plan = make_plan(wish.spec, sample=wish.sample, folder=_pins_folder(root), parent=current_version(root))
    same = plan.digest == digest_of(without_lent(stored.plan))
    if same:  # what was pinned may be lost: keep the fresh one
        plan = msgspec.structs.replace(plan, parent=stored.parent)
    write_plan(root, plan)
    remove_strays(root)
    return plan, "resumed" if same else "updated"


def _same_places(root: Path, wish: Wish, stored: PlanFile) -> tuple[Place, ...]:
    places = decide_places(wish.spec, wish.sample, _records(stored))
    lines = diff_plans(strip(without_lent(stored.plan)), outline(wish.spec, places))
    if lines:
        raise PlanConflict(
            f"{root} holds a build of another spec:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nadd --update to make a new version that keeps what did not change, or give another folder with --out"
        )
    return places


def _resume(stored: PlanFile, places: tuple[Place, ...]) -> Plan:
    specs = tuple(place.spec for place in places)
    return Plan(record=stored.plan, specs=specs, pins=stored.pins, parent=stored.parent)


def _check_toolchains(root: Path, spec: BuildSpec, plan: Plan, commits: Commits) -> None:
    for source, own in zip(plan.record.sources, plan.specs, strict=True):
        lanes = [lane.name for lane in plan.record.lanes if lane.source == source.name]
        if all(lane_is_done(commits, lane) for lane in lanes):
            continue
        found = toolchain_of(own, _source_toolchain(own, spec.seed, root))
        lines = diff_toolchains(found, source.toolchain)
        if lines:
            raise PlanConflict(
                f"source {source.name} of {root} was begun with other tools, and bytes would differ:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nrun where the wanted versions are installed, or add --update to begin its lanes anew"
            )


def _source_toolchain(spec: AnySource, seed: int, root: Path) -> dict[str, str]:
    """Only generators have tools of their own; pinning them looks at no location and writes nothing."""
    if not isinstance(spec, GeneratedSource):
        return {}
    return open_source(spec, seed).pin(_pins_folder(root)).toolchain


def _records(stored: PlanFile) -> dict[str, SourceRecord]:
    return {source.name: source for source in stored.plan.sources}


def _pins_folder(root: Path) -> Path:
    return root / BUILD_FOLDER / "sources"
