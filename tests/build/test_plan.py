"""Plans: quotas, decisions, refusal of another spec, updates that keep what did not change."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.build.plan import ALWAYS_SAID, config_of, make_plan, read_plan
from shardkit.build.progress import Committed, Event, Planned
from shardkit.build.quotas import share
from shardkit.build.run import build, dry_run
from shardkit.errors import PlanConflict, SpecError
from shardkit.plain import convert_spec
from shardkit.spec import BuildSpec, GitSource, Rules
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store
from tests.build.making import notes, questions, spec_of, write_questions


@given(st.integers(0, 10_000), st.lists(st.integers(1, 1000), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_shares_add_up_and_are_within_one_of_exact(total: int, weights: list[int]) -> None:
    parts = share(total, [Fraction(weight) for weight in weights])
    assert sum(parts) == total
    assert all(
        abs(part - Fraction(total * weight, sum(weights))) < 1 for part, weight in zip(parts, weights, strict=True)
    )


def test_sample_is_met_exactly_by_every_source_that_has_so_many(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", [1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9], bad={4: "no json"})
    spec = spec_of(notes(count=40, partitions=4), questions(path, partitions=2), notes("few", 3))
    build(spec, out=out, sample=7, workers=0)
    assert by_source(out) == {"notes": 7, "questions": 7, "few": 3}


def test_default_sample_is_each_sources_own(out: Path) -> None:
    build(spec_of(notes("a", 40, sample=4), notes("b", 40, sample=6)), out=out, sample="default", workers=0)
    assert by_source(out) == {"a": 4, "b": 6}


def test_limit_is_shared_among_partitions(out: Path) -> None:
    build(spec_of(notes(count=90, partitions=4, limit=10)), out=out, workers=0)
    _, manifest = read_manifest(open_store(out))
    assert [lane.quota for lane in manifest.plan.lanes] == [3, 3, 2, 2]
    assert by_source(out) == {"notes": 10}


def test_ratios_turn_a_total_into_quotas(out: Path) -> None:
    spec = spec_of(notes("a", 90, ratio=0.5), notes("b", 90, ratio=0.3), notes("c", 90, ratio=0.2, limit=2), total=33)
    build(spec, out=out, workers=0)
    assert by_source(out) == {"a": 16, "b": 10, "c": 2}


def test_no_more_rows_are_made_than_the_quota_takes(out: Path) -> None:
    build(spec_of(notes(count=1000)), out=out, sample=15, workers=1)
    _, manifest = read_manifest(open_store(out))
    assert [lane.rows for lane in manifest.lanes.values()] == [15]


def test_location_is_neither_in_the_config_nor_in_the_stored_plan(tmp_path: Path, out: Path) -> None:
    source = GitSource(name="code", normalizer="repository_file", url="https://user:secret@host/code.git")
    assert "secret" not in str(config_of(source))
    path = write_questions(tmp_path / "place" / "q.jsonl", range(5))
    build(spec_of(questions(path)), out=out, workers=0)
    assert b"place" not in (out / ".build" / "plan.json").read_bytes()


def test_fallback_is_taken_for_a_missing_tool_and_stays_decided(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = {"generator": "speech", "normalizer": "transcript", "media_type": "speech"}
    tones = {"generator": "dtmf", "normalizer": "transcript", "media_type": "tones"}
    spec = spec_of(notes("sound", 3, **speech, fallback=notes("sound", 3, **tones)))
    monkeypatch.setenv("PATH", "/nonexistent")
    events: list[Event] = []
    first = build(spec, out=out, workers=0, on_event=events.append)
    (planned,) = (event for event in events if isinstance(event, Planned))
    assert "espeak-ng" in planned.decisions[0] and "dtmf" in planned.decisions[0]
    monkeypatch.undo()
    assert build(spec, out=out, workers=0).version == first.version


def test_missing_tool_without_fallback_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    source = notes("sound", 3, generator="speech", normalizer="transcript", media_type="speech")
    with pytest.raises(SpecError, match="espeak-ng"):
        build(spec_of(source), out=out, workers=0)


def test_other_spec_in_the_same_folder_is_refused_with_a_diff(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(12))
    first = build(spec_of(notes(count=12), questions(path)), out=out, workers=0)
    other = spec_of(notes(count=13), questions(path, category="sums"), notes("more", 5), seed=4)
    with pytest.raises(PlanConflict) as raised:
        build(other, out=out, workers=0)
    lines = str(raised.value).splitlines()
    assert "    seed: 0 -> 4" in lines
    assert "    source notes: count: 12 -> 13" in lines
    assert '    source questions: category: "" -> "sums"' in lines
    assert "  + source more: generated" in lines
    assert "--update" in lines[-1]
    assert raised.value.exit_code == 2
    assert build(spec_of(notes(count=12), questions(path)), out=out, workers=0).version == first.version


def test_update_makes_a_version_with_a_parent_and_keeps_lanes_that_did_not_change(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(25))
    first = build(spec_of(notes(count=25, partitions=2), questions(path)), out=out, workers=0)
    events: list[Event] = []
    changed = spec_of(notes(count=25, partitions=2), questions(path, category="sums"), notes("more", 5))
    second = build(changed, out=out, workers=0, update=True, on_event=events.append)
    lanes = {event.lane.rpartition("-")[0] for event in events if isinstance(event, Committed)}
    assert lanes == {"questions-000", "more-000"}
    _, manifest = read_manifest(open_store(out))
    assert manifest.parent == first.version != second.version
    _, old = read_manifest(open_store(out), first.version)
    assert {entry.shard.digest for entry in old.shards if entry.source == "notes"} <= {
        entry.shard.digest for entry in manifest.shards
    }


def test_update_sees_a_changed_source_and_plain_rerun_does_not_look(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(15))
    spec = spec_of(notes(count=12), questions(path))
    first = build(spec, out=out, workers=0)
    write_questions(path, range(16))
    assert build(spec, out=out, workers=0).unchanged
    second = build(spec, out=out, workers=0, update=True)
    assert (second.samples, second.version != first.version) == (first.samples + 1, True)
    third = build(spec, out=out, workers=0, update=True)
    assert (third.version, third.unchanged) == (second.version, True)


def test_update_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path, out: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Committed):
            raise KeyboardInterrupt

    old, new = spec_of(notes(count=12)), spec_of(notes(count=35))
    other = tmp_path / "other"
    for folder in (out, other):
        build(old, out=folder, workers=0)
    with pytest.raises(KeyboardInterrupt):
        build(new, out=out, workers=0, update=True, on_event=stop)
    wanted = build(new, out=other, workers=0, update=True).version
    assert build(new, out=out, workers=0).version == wanted


def test_damaged_plan_is_an_error(out: Path) -> None:
    from shardkit.errors import ShardDamaged

    spec = spec_of(notes(count=12))
    build(spec, out=out, workers=0)
    path = out / ".build" / "plan.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(ShardDamaged, match=r"plan.json is damaged"):
        build(spec, out=out, workers=0)


def test_pins_of_plans_that_never_came_to_be_are_removed(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(5))
    with pytest.raises(SpecError):
        build(spec_of(questions(path), questions(tmp_path / "none.jsonl", "other")), out=out, workers=0)
    build(spec_of(questions(path)), out=out, workers=0)
    stored = read_plan(out)
    assert stored
    assert sorted(entry.name for entry in (out / ".build" / "sources").iterdir()) == ["questions.0"]
    assert stored.pins["questions"].folder == "questions.0"


def test_plan_of_a_spec_that_went_through_the_disk_is_the_same(tmp_path: Path) -> None:
    spec = spec_of(notes(count=9, partitions=2, parameters={"x": 1.5}) | {"parameters": {}})
    first = make_plan(spec, sample=None, folder=tmp_path / "a")
    second = make_plan(spec, sample=None, folder=tmp_path / "b")
    assert first.digest == second.digest
    assert msgspec.json.decode(msgspec.json.encode(first.record), type=type(first.record)) == first.record


def test_dry_run_touches_nothing_and_tells_lanes_tools_and_estimates(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(25))
    spec = spec_of(notes(count=400, partitions=2), questions(path), notes("pages", 5, generator="ui_mockup"))
    found = dry_run(spec, out=out, workers=2)
    assert not out.exists()
    assert len(found.lanes) == 4
    text = found.text()
    assert "pillow" in text and "estimate for all" in text
    built = build(spec, out=out, workers=0)
    assert found.bytes and 0.5 < found.bytes / built.bytes < 2
    assert found.plan == read_manifest(open_store(out))[1].plan_digest


def by_source(out: Path) -> dict[str, int]:
    return read_manifest(open_store(out))[1].totals.by_source


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_estimate_counts_rows_that_are_not_counted_in_advance(tmp_path: Path, out: Path, suffix: str) -> None:
    path = write_questions(tmp_path / f"q{suffix}", range(1000))
    if suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    planned = dry_run(spec_of(questions(path)), out=out)
    factor = 1.2 if suffix == ".jsonl" else 5.0  # how well a file is packed is a guess
    assert 1000 / factor < (planned.sources[0].samples or 0) < 1000 * factor
    assert planned.bytes is not None


def test_a_field_that_says_nothing_new_is_not_part_of_a_plan() -> None:
    kinds = {"files": {"path": "x"}, "jsonl": {"path": "x"}, "git": {"url": "x"}, "hub": {"dataset": "a/b"}}
    for kind, more in kinds.items():
        raw = {"name": "plan", "sources": [{"kind": kind, "name": "one", "normalizer": "plain_text", **more}]}
        (source,) = convert_spec(raw, BuildSpec, "test").sources
        assert set(config_of(source)) <= ALWAYS_SAID | {"dataset"}
        said = config_of(msgspec.structs.replace(source, rules=Rules(max_messages=2), where={"lang": "en"}))
        assert set(said) - set(config_of(source)) == {"rules", "where"}
