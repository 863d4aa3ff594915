"""What goes wrong ends in one clear message, and leaves nothing half done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardkit.build.progress import Event, Warned
from shardkit.build.run import build
from shardkit.errors import SpecError, StorageFailed
from shardkit.store.faults import Setting
from tests.build.making import build_with_faults, notes, questions, run_command, save_spec, spec_of, write_questions


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "nowhere"), ("empty", "no file matches"), ("hollow.jsonl", "no row")],
)
def test_missing_and_empty_sources_are_errors_of_the_spec(tmp_path: Path, out: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow.jsonl").touch()
    with pytest.raises(SpecError, match=message):
        build(spec_of(questions(tmp_path / path)), out=out, workers=0)
    assert not (out / "manifest.json").exists()


def test_unknown_normalizer_is_named_with_those_that_exist(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(3))
    with pytest.raises(SpecError, match="question_answer"):
        build(spec_of(questions(path, normalizer="questions")), out=out, workers=0)


def test_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(StorageFailed, match=str(file)):
        build(spec_of(notes(count=3)), out=file, workers=0)
    with pytest.raises(StorageFailed, match=r"cannot mkdir /sys/dataset.*choose a folder that can be written to"):
        build(spec_of(notes(count=3)), out=Path("/sys/dataset"), workers=0)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_full_disk_says_what_to_do_and_the_resume_completes(tmp_path: Path, out: Path, workers: str) -> None:
    spec = spec_of(notes(count=60, partitions=2))
    saved = save_spec(tmp_path / "spec.yaml", spec)
    full = '{"fault": "enospc", "at": 12, "kinds": ["write"], "lasting": true}'
    done = run_command("build", saved, "--out", out, "--workers", workers, "--json", SHARDKIT_FAULTS=full)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "free space on that disk and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    assert build(spec, out=out, workers=1).version == build(spec, out=tmp_path / "wanted", workers=0).version


def test_failed_write_leaves_nothing_half_published(tmp_path: Path) -> None:
    spec = spec_of(notes(count=25))
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    for at in range(2, 60, 5):
        out = tmp_path / f"failed-{at}"
        assert os.WEXITSTATUS(build_with_faults(spec, out, Setting(fault="eio", at=at))) == 1
        assert not (out / "manifest.json").exists()
        assert build(spec, out=out, workers=0).version == wanted


def test_source_without_any_sample_is_a_warning(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": ""}\n', encoding="utf-8")
    events: list[Event] = []
    build(spec_of(notes(count=5), questions(path)), out=out, workers=0, on_event=events.append)
    (warned,) = (event for event in events if isinstance(event, Warned))
    assert warned.message == "source questions gave no sample (refused: 1 empty-text)"


def test_too_many_workers_for_the_memory_are_cut_with_a_warning(out: Path) -> None:
    events: list[Event] = []
    spec = spec_of(notes(count=5, partitions=4), limits={"memory_bytes": 256 << 20})
    build(spec, out=out, workers=4, on_event=events.append)
    assert "memory_bytes allows 1 workers" in next(event.message for event in events if isinstance(event, Warned))


@pytest.mark.parametrize("sample", [0, -1, "many"])
def test_impossible_samples_are_refused(out: Path, sample: object) -> None:
    with pytest.raises(SpecError, match="sample is"):
        build(spec_of(notes(count=5)), out=out, sample=sample, workers=0)  # type: ignore[arg-type]
