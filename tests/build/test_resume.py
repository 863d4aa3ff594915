"""A build that was stopped, in whatever way, ends as one that never was."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shardkit.build.cutter import LaneJob
from shardkit.build.lane import read_steps
from shardkit.build.progress import Committed, Event, LaneStopped, Planned
from shardkit.build.run import build
from shardkit.build.status import read_status
from shardkit.errors import Locked, PartlyDone, PlanConflict, SourceFailed
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import Pinned, Step
from shardkit.spec import BuildSpec, GeneratedSource
from shardkit.store import shard
from shardkit.store.faults import Setting
from shardkit.store.layout import LaneRecord
from shardkit.store.publish import lock
from tests.build.making import (
    build_with_faults,
    command,
    notes,
    questions,
    run_command,
    save_spec,
    spec_of,
    was_killed,
    write_questions,
)


class Stopped(Exception):
    """Raised by a test in place of a signal."""


def two_sources(folder: Path) -> BuildSpec:
    write_questions(folder / "q.jsonl", range(33), bad={3: "{"})
    return spec_of(notes(count=45, partitions=2), questions(folder / "q.jsonl"))


def test_killed_at_every_link_gives_the_same_version(tmp_path: Path) -> None:
    """Links give files their final names: shards, indexes, dead letters, commits, plan, version."""
    spec = two_sources(tmp_path)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    for at in range(1, 1000):
        out = tmp_path / f"killed-{at}"
        if not was_killed(build_with_faults(spec, out, Setting(fault="kill", at=at, kinds=("link",)))):
            break
        assert build(spec, out=out, workers=0).version == wanted, f"killed at link {at}"
    assert at > 20


def test_killed_again_and_again_gives_the_same_version(tmp_path: Path, out: Path) -> None:
    spec = two_sources(tmp_path)
    kills = 0
    while was_killed(build_with_faults(spec, out, Setting(fault="kill", at=40 + 10 * kills))):
        kills += 1
        assert kills < 100, "no progress from kill to kill"
    assert kills > 2
    assert build(spec, out=out, workers=0).version == build(spec, out=tmp_path / "wanted", workers=0).version


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_stopped_at_every_commit_gives_the_same_version(tmp_path: Path, workers: int) -> None:
    spec = two_sources(tmp_path)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    for at in range(1, 100, 1 if workers == 0 else 4):
        out = tmp_path / f"stopped-{at}"
        try:
            build(spec, out=out, workers=workers, on_event=stop_at_commit(at))
        except Stopped:
            done = read_status(out)
            result = build(spec, out=out, workers=workers)
            assert result.version == wanted
            assert sum(len(list(lane.iterdir())) for lane in (out / ".build" / "lanes").iterdir()) >= at
            assert done.samples <= result.samples
        else:
            break
    assert at > 8


def test_killed_process_tree_resumes_and_leaves_no_worker(tmp_path: Path, out: Path) -> None:
    spec = save_spec(tmp_path / "spec.yaml", spec_of(notes(count=400, partitions=4)))
    slow = '{"seconds": {"staging": 0.005}}'
    with subprocess.Popen(
        command("build", spec, "--out", out, "--workers", "2", "--json"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SHARDKIT_PHASES": slow},
    ) as process:
        assert process.stdout
        next(line for line in process.stdout if '"event":"commit"' in line)
        workers = children(process.pid)
        assert len(workers) == 2
        process.kill()
    assert all(gone(pid) for pid in workers)
    done = run_command("build", spec, "--out", out, "--json")
    assert f'"version":"{wanted_version(tmp_path, spec)}"' in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [0, 2])
def test_signal_stops_at_once_and_names_the_command_that_resumes(
    tmp_path: Path, out: Path, number: signal.Signals, code: int, workers: int
) -> None:
    spec = save_spec(tmp_path / "spec.yaml", spec_of(notes(count=4000, partitions=4)))
    with subprocess.Popen(
        command("build", spec, "--out", out, "--workers", str(workers), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SHARDKIT_PHASES": '{"seconds": {"staging": 0.01}}'},
    ) as process:
        assert process.stdout and process.stderr
        next(line for line in process.stdout if '"event":"commit"' in line)
        below = children(process.pid)
        process.send_signal(number)
        begun = time.monotonic()
        assert process.wait(10) == code
        assert time.monotonic() - begun < 3
        assert f"shardkit build {spec} --out {out}" in process.stderr.read()
    assert all(gone(pid) for pid in below)


def test_worker_that_dies_stops_its_lane_only(tmp_path: Path, out: Path) -> None:
    spec = spec_of(notes("short", 5), notes("long", 300), notes("last", 5))
    killed: list[int] = []

    def kill_worker_of_long(event: Event) -> None:
        if isinstance(event, Committed) and event.lane.startswith("long") and not killed:
            killed.extend(children(os.getpid()))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(PartlyDone, match=r"1 of 3 lanes stopped early(.|\n)*SIGKILL(.|\n)*memory"):
        build(spec, out=out, workers=1, on_event=kill_worker_of_long)
    status = read_status(out)
    assert [lane.done for lane in status.lanes] == [True, False, True]
    assert status.version is None
    assert build(spec, out=out, workers=1).version == build(spec, out=tmp_path / "wanted", workers=0).version


@pytest.mark.parametrize("workers", [0, 1])
def test_changed_source_stops_its_lane_and_resumes_when_it_is_back(tmp_path: Path, out: Path, workers: int) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(30))
    spec = spec_of(notes(count=12), questions(path, partitions=1), notes("more", 7))
    original = path.read_bytes()
    with pytest.raises(Stopped):
        build(spec, out=out, workers=0, on_event=stop_at_commit(1))
    path.write_bytes(original.replace(b"+ 1", b"+ 2"))
    stopped: list[LaneStopped] = []
    with pytest.raises(PartlyDone, match=r"changed since planned(.|\n)*\nadd --update") as raised:
        build(
            spec, out=out, workers=workers, on_event=lambda e: stopped.append(e) if isinstance(e, LaneStopped) else None
        )
    assert raised.value.exit_code == 3
    assert [event.source for event in stopped] == ["questions"]
    assert not (out / "manifest.json").exists()
    path.write_bytes(original)
    assert build(spec, out=out, workers=workers).version == build(spec, out=tmp_path / "wanted", workers=0).version


def test_resume_says_what_it_reads_again_and_only_while_something_is_left(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(30))
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    spec = spec_of(questions(tmp_path / "q.jsonl.gz"))
    with pytest.raises(Stopped):
        build(spec, out=out, workers=0, on_event=stop_at_commit(1))
    told: list[tuple[str, ...]] = []
    for _ in range(2):
        build(spec, out=out, workers=0, on_event=lambda e: told.append(e.decisions) if isinstance(e, Planned) else None)
    assert told == [("going on reads again the decompressed start of the open .gz or .zst file",), ()]


def test_lost_pin_of_a_source_is_made_again_by_update(tmp_path: Path, out: Path) -> None:
    spec = spec_of(questions(write_questions(tmp_path / "q.jsonl", range(30))))
    with pytest.raises(Stopped):
        build(spec, out=out, workers=0, on_event=stop_at_commit(1))
    shutil.rmtree(out / ".build" / "sources")
    with pytest.raises(PartlyDone, match="build with --update"):
        build(spec, out=out, workers=0)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    assert build(spec, out=out, workers=0, update=True).version == wanted


def test_resume_follows_the_source_to_another_place(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "a" / "q.jsonl", range(30))
    with pytest.raises(Stopped):
        build(spec_of(questions(path)), out=out, workers=0, on_event=stop_at_commit(2))
    path.parent.rename(tmp_path / "b")
    moved = spec_of(questions(tmp_path / "b" / "q.jsonl"))
    assert build(moved, out=out, workers=0).version == build(moved, out=tmp_path / "wanted", workers=0).version


def test_resume_reads_nothing_again_that_is_committed(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for at in range(35):
        (folder / f"{at:02d}.txt").write_text(f"Text number {at}.", encoding="utf-8")
    source = {"kind": "files", "name": "texts", "path": str(folder), "normalizer": "plain_text"}
    spec = spec_of(source)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    with pytest.raises(Stopped):
        build(spec, out=out, workers=0, on_event=stop_at_commit(2))
    for at in range(20):
        (folder / f"{at:02d}.txt").unlink()
    assert build(spec, out=out, workers=1).version == wanted


def test_resume_with_other_tools_is_refused_for_lanes_that_are_not_done(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(notes(count=30))
    with pytest.raises(Stopped):
        build(spec, out=out, workers=0, on_event=stop_at_commit(1))
    real = shard.toolchain()["zstd"]
    monkeypatch.setattr(shard, "toolchain", lambda: {"zstd": "0.0.1"})
    with pytest.raises(PlanConflict, match=f"zstd: found 0.0.1, wanted {real}"):
        build(spec, out=out, workers=0)
    monkeypatch.undo()
    finished = build(spec, out=out, workers=0)
    monkeypatch.setattr(shard, "toolchain", lambda: {"zstd": "0.0.1"})
    again = build(spec, out=out, workers=0)
    assert (again.version, again.unchanged) == (finished.version, True)


def test_second_builder_fails_at_once_and_touches_nothing(out: Path) -> None:
    spec = spec_of(notes(count=12))
    with lock(out):
        before = sorted(str(path) for path in out.rglob("*"))
        with pytest.raises(Locked, match=f"pid {os.getpid()}"):
            build(spec, out=out, workers=0)
        assert sorted(str(path) for path in out.rglob("*")) == before
    assert build(spec, out=out, workers=0).samples == 12


def test_finished_build_run_again_changes_nothing(out: Path) -> None:
    spec = spec_of(notes(count=25))
    first = build(spec, out=out, workers=0)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"}
    again = build(spec, out=out, workers=2)
    assert (again.version, again.unchanged, first.unchanged) == (first.version, True, False)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock"} == before


class Flaky:
    """A source that fails before every row, a fixed number of times; it counts the rows that it gave."""

    def __init__(self, failures: int) -> None:
        self.failures, self.left, self.given = failures, failures, 0

    def missing_tool(self) -> str:
        return ""

    def pin(self, folder: Path) -> Pinned:
        return Pinned(revision="1")

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        for at in range(int(cursor["at"]) if cursor else 0, 5):
            if self.left:
                self.left -= 1
                raise SourceFailed("connection reset")
            self.left = self.failures
            self.given += 1
            yield Step(row=Row(position=str(at), fields={}), cursor={"at": at + 1})


def test_passing_failure_of_a_source_is_tried_again_where_it_happened() -> None:
    slept: list[float] = []
    source = Flaky(2)
    steps = list(read_steps(source, job(), slept.append))
    assert [step.row.position for step in steps] == ["0", "1", "2", "3", "4"]
    assert source.given == 5
    assert len(slept) == 10
    assert slept[1] > slept[0]


def test_lasting_failure_of_a_source_ends_after_a_few_tries() -> None:
    slept: list[float] = []
    with pytest.raises(SourceFailed, match="connection reset"):
        list(read_steps(Flaky(99), job(), slept.append))
    assert 0 < len(slept) < 10


def job() -> LaneJob:
    lane = LaneRecord(name="lane", source="notes", partition=0, partitions=1)
    spec = GeneratedSource(name="notes", normalizer="question_answer", generator="notes", count=5)
    return LaneJob(root="", lane=lane, spec=spec, revision="1", pins="", seed=0)


def stop_at_commit(number: int):
    seen = []

    def on_event(event: Event) -> None:
        if isinstance(event, Committed):
            seen.append(event)
            if len(seen) == number:
                raise Stopped

    return on_event


def wanted_version(tmp_path: Path, spec: Path) -> str:
    loaded = msgspec.json.decode(spec.read_bytes(), type=BuildSpec)
    return build(loaded, out=tmp_path / "wanted", workers=0).version


def children(pid: int) -> list[int]:
    found = [Path(f"/proc/{pid}/task/{task.name}/children") for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for path in found for child in path.read_text().split()]


def gone(pid: int) -> bool:
    """Whether a process ends within a moment."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
