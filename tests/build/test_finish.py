"""Duplicates across shards and lanes, totals, and what is removed at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.build.duplicates import find_duplicates
from shardkit.build.progress import Committed, Event, Warned
from shardkit.build.run import build
from shardkit.errors import ShardkitError, SpecError
from shardkit.store.index import IndexReader
from shardkit.store.layout import shard_path, version_path
from shardkit.store.manifest import read_columns, read_manifest
from shardkit.store.urls import open_store
from tests.build.making import notes, questions, spec_of, write_questions


def test_later_duplicates_across_shards_and_lanes_are_omitted(tmp_path: Path, out: Path) -> None:
    first = write_questions(tmp_path / "a.jsonl", [*range(15), 3, 4, *range(20, 30)])
    second = write_questions(tmp_path / "b.jsonl", [100, 4, 101, 22, 100])
    spec = spec_of(questions(first, "first"), questions(second, "second"))
    result = build(spec, out=out, workers=0)
    assert (result.omitted, result.duplicates, result.samples) == (4, 1, 27)
    assert live_keys(out) == all_different(live_keys(out))
    _, manifest = read_manifest(open_store(out))
    assert manifest.totals.by_source == {"first": 25, "second": 2}
    assert manifest.totals.by_modality == {"text": 27}


def test_totals_of_live_samples_equal_those_of_a_build_without_duplicates(tmp_path: Path, out: Path) -> None:
    doubled = write_questions(tmp_path / "a.jsonl", [*range(15), *range(15)])
    single = write_questions(tmp_path / "b.jsonl", range(15))
    build(spec_of(questions(doubled)), out=out, workers=0)
    build(spec_of(questions(single)), out=tmp_path / "single", workers=0)
    _, found = read_manifest(open_store(out))
    _, wanted = read_manifest(open_store(tmp_path / "single"))
    assert found.totals.sums == wanted.totals.sums
    assert found.totals.samples == wanted.totals.samples
    assert found.totals.omitted == 15


def test_duplicates_of_other_shards_stay_when_the_spec_keeps_them(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "a.jsonl", [*range(15), *range(15)])
    result = build(spec_of(questions(path), duplicates="keep"), out=out, workers=0)
    assert (result.omitted, result.samples) == (0, 30 - result.duplicates)
    assert len(live_keys(out)) > len(set(live_keys(out)))


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=8), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_duplicates_are_those_that_a_set_finds(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], run_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    packed = [b"".join(key_of(number) for number in shard) for shard in shards]
    found = find_duplicates(packed, sum(map(len, shards)), folder, run_rows)
    wanted: dict[int, list[int]] = {}
    seen: set[int] = set()
    for at, shard in enumerate(shards):
        for ordinal, number in enumerate(shard):
            if number in seen:
                wanted.setdefault(at, []).append(ordinal)
            seen.add(number)
    assert found == wanted
    assert not list(folder.iterdir())


def test_nothing_is_published_when_no_row_becomes_a_sample(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": ""}\nnot json\n', encoding="utf-8")
    with pytest.raises(SpecError, match=r"no row became a sample \(refused: 1 empty-text, 1 not-json\)"):
        build(spec_of(questions(path)), out=out, workers=0)
    assert not (out / "manifest.json").exists()


def test_published_files_that_no_commit_names_are_removed_at_the_end(out: Path) -> None:
    stray = out / "shards" / "ab" / ("ab" + "0" * 62 + ".tar")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"left by a build that was killed between link and commit")
    build(spec_of(notes(count=12)), out=out, workers=0)
    assert not stray.exists()


def test_commits_of_a_plan_that_was_given_up_are_removed_with_their_files(out: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Committed):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(spec_of(notes(count=25)), out=out, workers=0, on_event=stop)
    assert shard_digests(out)
    result = build(spec_of(notes("other", 12)), out=out, workers=0, update=True)
    _, manifest = read_manifest(open_store(out))
    assert (manifest.parent, result.samples) == (None, 12)
    assert shard_digests(out) == {entry.shard.digest for entry in manifest.shards}
    assert [path.name.rpartition("-")[0] for path in (out / ".build" / "lanes").iterdir()] == ["other-000"]


def test_lost_shard_is_made_again_by_running_again(out: Path) -> None:
    spec = spec_of(notes(count=25))
    first = build(spec, out=out, workers=0)
    _, manifest = read_manifest(open_store(out))
    lost = out / shard_path(manifest.shards[1])
    lost.unlink()
    again = build(spec, out=out, workers=0)
    assert (again.version, again.unchanged) == (first.version, False)
    assert lost.exists()
    assert build(spec, out=out, workers=0).unchanged


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"cut")])
def test_lost_version_is_made_again_by_running_again(out: Path, damage: Callable[[Path], object]) -> None:
    spec = spec_of(notes(count=25))
    first = build(spec, out=out, workers=0)
    damage(out / version_path(first.version))
    events: list[Event] = []
    assert build(spec, out=out, workers=0, on_event=events.append).version == first.version
    assert any(isinstance(event, Warned) and first.version in event.message for event in events)
    assert read_manifest(open_store(out))[0] == first.version


@pytest.mark.parametrize("content", [b"", b"mine", b'{"version": "1.0", "name": "a browser extension"}'])
def test_somebody_elses_manifest_is_not_replaced(out: Path, content: bytes) -> None:
    out.mkdir()
    (out / "manifest.json").write_bytes(content)
    with pytest.raises(ShardkitError, match=r"manifest\.json.*move that file away"):
        build(spec_of(notes(count=5)), out=out, workers=0)
    assert (out / "manifest.json").read_bytes() == content


def test_files_that_are_not_ours_stay(out: Path) -> None:
    mine = ["shards/000000.tar", "shards/ab/mine.tar", "versions/1.0.json", "versions/old.json.zst", "notes.txt"]
    mine += [".build/lanes/mine", ".build/sources/mine", "shards/.build"]
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    for _ in range(2):
        build(spec_of(notes(count=12)), out=out, workers=0)
    assert all((out / name).read_text() == "mine" for name in mine)


def test_shards_lie_in_the_order_of_the_plan(out: Path) -> None:
    build(spec_of(notes("b", 25), notes("a", 25, partitions=2)), out=out, workers=2)
    _, manifest = read_manifest(open_store(out))
    order = [(entry.lane.rpartition("-")[0], entry.ordinal) for entry in manifest.shards]
    assert order == [("b-000", 0), ("b-000", 1), ("b-000", 2), ("a-000", 0), ("a-000", 1), ("a-001", 0), ("a-001", 1)]


def shard_digests(out: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (out / "shards").rglob("*.tar")}


def key_of(number: int) -> bytes:
    """Keys that differ in the first half, in the second, or are at the ends of the range."""
    rng = np.random.default_rng(number // 2)
    first = (0, (1 << 64) - 1, int(rng.integers(1 << 63)))[number % 3]
    return first.to_bytes(8, "big") + number.to_bytes(8, "big")


def live_keys(out: Path) -> list[str]:
    store = open_store(out)
    _, manifest = read_manifest(store)
    omitted = read_columns(store, manifest)
    keys: list[str] = []
    for position, entry in enumerate(manifest.shards):
        packed = b"".join(page.keys for page in IndexReader(store, entry).pages())
        own = [packed[at : at + 16].hex() for at in range(0, len(packed), 16)]
        keys += [key for ordinal, key in enumerate(own) if ordinal not in omitted.get(position, ())]
    return keys


def all_different(keys: list[str]) -> list[str]:
    return list(dict.fromkeys(keys))
