"""Events, how they are shown, and the same facts afterwards."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from shardkit.build.phase import PHASES, open_phases
from shardkit.build.progress import Bars, Committed, Done, Event, Finishing, LaneEnded, Planned, open_renderer
from shardkit.build.run import build
from shardkit.build.status import read_status
from shardkit.errors import NotADataset
from shardkit.store.publish import lock
from tests.build.making import notes, questions, run_command, save_spec, spec_of, write_questions


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_events_come_in_the_order_of_the_work(out: Path) -> None:
    events: list[Event] = []
    result = build(spec_of(notes(count=25, partitions=2)), out=out, workers=0, on_event=events.append)
    kinds = [type(event) for event in events if type(event).__name__ != "LaneProgress"]
    lane = [Committed, Committed, LaneEnded]
    assert kinds == [Planned, *lane, *lane, Finishing, Done]
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.version, done.samples, done.unchanged) == (result.version, 25, False)


def test_last_json_line_is_the_result(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(12), bad={3: "{"})
    spec = save_spec(tmp_path / "spec.yaml", spec_of(questions(path)))
    done = run_command("build", spec, "--out", out, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["event"] for line in lines} >= {"plan", "commit", "lane_done", "finishing", "done"}
    assert lines[-1] | {"bytes": 0} == {
        "event": "done",
        "dataset": str(out),
        "version": read_status(out).version,
        "samples": 11,
        "dead_letters": 1,
        "shards": 2,
        "bytes": 0,
        "duplicates": 0,
        "omitted": 0,
        "shortages": {},
        "missing": 0,
        "unchanged": False,
    }


def test_plain_lines_tell_lanes_refusals_and_the_end(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", range(12), bad={3: "{"})
    stream = io.StringIO()
    with open_renderer(stream=stream) as render:
        build(spec_of(questions(path)), out=out, workers=0, on_event=render)
    text = stream.getvalue()
    assert "new plan" in text
    assert "commit 1, 11 samples, refused: 1 not-json" in text
    assert "is complete: 11 samples in 2 shards" in text


def test_bars_show_every_lane_with_count_and_rate(out: Path) -> None:
    terminal = Terminal()
    with open_renderer(stream=terminal) as render:
        assert isinstance(getattr(render, "__self__", None), Bars)
        build(spec_of(notes(count=25), notes("more", 5)), out=out, workers=0, on_event=render)
    text = terminal.getvalue()
    assert "notes-000" in text and "25/25" in text and "5/5" in text
    assert "is complete: 30 samples" in text.replace("\n", "")


def test_many_lanes_show_no_more_bars_than_are_under_way(out: Path) -> None:
    terminal = Terminal()
    with open_renderer(stream=terminal) as render:
        build(spec_of(notes(count=60, partitions=30)), out=out, workers=0, on_event=render)
    assert terminal.getvalue().splitlines()[-1].count("notes-") <= 2


def test_status_tells_what_is_committed_while_and_after_the_build(tmp_path: Path, out: Path) -> None:
    path = write_questions(tmp_path / "q.jsonl", [*range(25), 24], bad={0: "{"})
    spec = spec_of(questions(path, limit=100), notes(count=15))
    during = []
    build(spec, out=out, workers=0, on_event=lambda _: during.append(read_status(out)))
    assert during[0].samples == 0 and during[0].running and not during[0].complete
    assert [status.samples for status in during] == sorted(status.samples for status in during)
    after = read_status(out)
    assert (after.running, after.complete, after.samples) == (False, True, 39)
    first = after.lanes[0]
    assert (first.rows, first.samples, first.duplicates, first.refused) == (26, 24, 1, {"not-json": 1})
    assert (first.quota, first.shards, first.done) == (100, 3, True)
    assert str(after.version) in after.text() and "1 not-json" in after.text()


def test_status_of_a_locked_folder_is_running_and_takes_nothing_from_it(out: Path) -> None:
    build(spec_of(notes(count=5)), out=out, workers=0)
    with lock(out):
        assert read_status(out).running
    with lock(out):
        pass


def test_status_of_another_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotADataset, match="holds no build"):
        read_status(tmp_path)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_open_phases_are_visible_from_outside(tmp_path: Path, out: Path, workers: str) -> None:
    boards = tmp_path / "boards"
    boards.mkdir()
    spec = save_spec(tmp_path / "spec.yaml", spec_of(notes(count=25)))
    hook = json.dumps({"folder": str(boards)})
    kill = '{"fault": "kill", "at": 1, "kinds": ["replace"]}'  # the pointer, last of all
    done = run_command("build", spec, "--out", out, "--workers", workers, SHARDKIT_PHASES=hook, SHARDKIT_FAULTS=kill)
    assert done.returncode == -9
    assert "finishing" in open_phases(boards)
    assert set(open_phases(boards)) <= set(PHASES)
