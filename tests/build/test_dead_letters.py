"""Rows that can never become samples: kept with a reason, the same however the build went."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardkit.build import cutter
from shardkit.build.run import build
from shardkit.store.layout import DeadLetter
from shardkit.store.manifest import read_dead_letters, read_manifest
from shardkit.store.urls import open_store
from tests.build.making import questions, spec_of, write_questions

BAD = {2: "{", 11: '{"question": ""}', 12: '["no", "object"]', 29: '{"question": "a", "answer": 3}'}


def test_every_refused_row_has_a_letter_with_reason_position_and_handle(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(30), bad=BAD)
    result = build(spec_of(questions(path)), out=out, workers=1)
    found = letters(out)
    assert [letter.position for letter in found] == ["q.jsonl:3", "q.jsonl:12", "q.jsonl:13", "q.jsonl:30"]
    assert [letter.reason for letter in found] == ["not-json", "empty-text", "not-json", "missing-field"]
    assert {letter.source for letter in found} == {"questions"}
    assert all(letter.retry for letter in found)
    assert (result.samples, result.dead_letters) == (26, 4)


def test_rows_equal_samples_duplicates_and_refused(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", [*range(8), 3, 3, *range(20)], bad={5: "{"})
    build(spec_of(questions(path)), out=out, workers=0)
    _, manifest = read_manifest(open_store(out))
    (totals,) = manifest.lanes.values()
    assert totals.rows == 30 == totals.samples + totals.duplicates + sum(totals.refused.values())
    assert totals.duplicates == 9
    assert sum(entry.samples for entry in manifest.shards) == totals.samples


def test_a_source_of_nothing_but_bad_rows_commits_on_its_way(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutter, "LETTERS", 10)
    path = write_questions(tmp_path / "q.jsonl", range(36), bad=dict.fromkeys(range(35), "{"))
    assert build(spec_of(questions(path)), out=out, workers=0).samples == 1
    assert len(letters(out)) == 35
    _, manifest = read_manifest(open_store(out))
    assert len(manifest.dead_letters) == 4
    assert len(list(next((out / ".build" / "lanes").iterdir()).iterdir())) == 4


def test_retry_handle_leads_back_to_the_row(tmp_path: Path, out: Path) -> None:
    from shardkit.build.plan import read_plan
    from shardkit.sources.table import open_source

    path = write_questions(tmp_path / "q.jsonl", range(30), bad=BAD)
    spec = spec_of(questions(path))
    build(spec, out=out, workers=0)
    stored = read_plan(out)
    assert stored
    pins = out / ".build" / "sources" / stored.pins["questions"].folder
    for letter in letters(out):
        step = next(open_source(spec.sources[0], 0).rows(pins, 0, 1, letter.retry))
        assert step.row.position == letter.position


def letters(out: Path) -> list[DeadLetter]:
    store = open_store(out)
    _, manifest = read_manifest(store)
    return [letter for ref in manifest.dead_letters for letter in read_dead_letters(store, ref)]
