"""The version's digest depends on the plan alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shardkit.build.run import build
from tests.build.making import notes, questions, run_command, save_spec, spec_of, write_questions


def mixed(folder: Path, **fields: object):
    """Generated text on three lanes, JSON lines with refused ones, drawn pages, compressed files."""
    write_questions(folder / "q.jsonl", range(45), bad={7: "not json", 30: '{"question": "why?"}'})
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for at in range(6):
        (folder / "files" / f"note{at}.txt").write_text(f"Plain text number {at}.\n" * 3, encoding="utf-8")
    files = {"kind": "files", "name": "files", "path": str(folder / "files"), "normalizer": "plain_text"}
    return spec_of(
        notes(count=50, partitions=3),
        questions(folder / "q.jsonl", partitions=2),
        notes("pages", 4, generator="ui_mockup"),
        {**files, "codec": "tar.zst"},
        **fields,
    )


@pytest.fixture
def wanted(tmp_path: Path) -> str:
    return build(mixed(tmp_path / "input"), out=tmp_path / "wanted", workers=0).version


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_number_of_workers_leaves_no_trace(tmp_path: Path, wanted: str, workers: int) -> None:
    result = build(mixed(tmp_path / "input"), out=tmp_path / "other", workers=workers)
    assert result.version == wanted
    assert result.dead_letters == 2
    assert contents(tmp_path / "other") == contents(tmp_path / "wanted")


def test_location_of_input_and_its_times_leave_no_trace(tmp_path: Path, wanted: str) -> None:
    moved = tmp_path / "elsewhere" / "deep"
    spec = mixed(moved)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    assert build(spec, out=tmp_path / "other", workers=0).version == wanted


def test_memory_limit_leaves_no_trace(tmp_path: Path, wanted: str) -> None:
    spec = mixed(tmp_path / "input", limits={"memory_bytes": 300 << 20})
    assert build(spec, out=tmp_path / "other", workers=1).version == wanted


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
        {"TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8"},
        {"PYTHONHASHSEED": "12345", "HOME": "/nonexistent"},
    ],
    ids=["locale", "time-zone", "hash-seed"],
)
def test_environment_leaves_no_trace(tmp_path: Path, wanted: str, environment: dict[str, str]) -> None:
    spec = save_spec(tmp_path / "spec.yaml", mixed(tmp_path / "input"))
    done = run_command("build", spec, "--out", tmp_path / "other", "--workers", "0", "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert f'"version":"{wanted}"' in done.stdout.splitlines()[-1]


def test_clock_leaves_no_trace(tmp_path: Path, wanted: str) -> None:
    library = find_faketime()
    if library is None:
        pytest.skip("libfaketime is not installed")
    spec = save_spec(tmp_path / "spec.yaml", mixed(tmp_path / "input"))
    clock = {"LD_PRELOAD": str(library), "FAKETIME": "2001-01-01 00:00:00", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    done = run_command("build", spec, "--out", tmp_path / "other", "--workers", "1", "--json", **clock)
    assert f'"version":"{wanted}"' in done.stdout.splitlines()[-1]


def test_dataset_has_no_trace_of_this_machine(tmp_path: Path, wanted: str) -> None:
    import zstandard

    (version,) = (tmp_path / "wanted" / "versions").iterdir()
    with zstandard.ZstdDecompressor().stream_reader(version.read_bytes(), read_across_frames=True) as stream:
        manifest = stream.read()
    plan = (tmp_path / "wanted" / ".build" / "plan.json").read_bytes()
    assert b"notes" in manifest
    for trace in (str(tmp_path), os.uname().nodename, str(Path.home())):
        assert trace.encode() not in manifest
        assert trace.encode() not in plan


def test_moved_folder_resumes_and_reads_as_complete(tmp_path: Path, wanted: str) -> None:
    shutil.move(tmp_path / "wanted", tmp_path / "moved")
    result = build(mixed(tmp_path / "input"), out=tmp_path / "moved", workers=1)
    assert (result.version, result.unchanged) == (wanted, True)


def contents(root: Path) -> dict[str, bytes]:
    """Every published file: what does not lie under .build."""
    files = (path for path in root.rglob("*") if path.is_file())
    relative = {path.relative_to(root).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in relative.items() if not name.startswith(".build/")}


def find_faketime() -> Path | None:
    folders = (Path("/usr/lib/x86_64-linux-gnu/faketime"), Path("/usr/lib/aarch64-linux-gnu/faketime"))
    return next((path for folder in folders for path in folder.glob("libfaketime.so.1")), None)
