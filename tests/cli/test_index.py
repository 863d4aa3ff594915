"""`shardkit index` as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.read.foreign import png_bytes, text_tars, write_tar
from tests.store import hostile


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "tars"
    folder.mkdir()
    text_tars(folder, [5, 6])
    return folder


def test_index_beside_the_tars_makes_a_dataset_that_all_commands_take(shardkit: Command, tars: Path) -> None:
    outcome = shardkit("index", f"{tars}/shard-{{000..001}}.tar", "--workers", 0, "--json")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert [event["event"] for event in events] == ["indexed", "indexed", "done"]
    assert (events[-1]["samples"], events[-1]["shards"], events[-1]["indexed"]) == (11, 2, 2)
    assert json.loads(shardkit("stats", tars, "--json").out)["samples"] == 11
    assert shardkit("verify", tars).code == 0
    assert shardkit("verify", tars, "--deep").code == 0
    assert "s0003" in shardkit("ls", tars).out
    assert shardkit("cat", tars, "s0003").code == 0
    again = shardkit("index", f"{tars}/shard-*.tar")
    assert again.code == 0 and "11 samples in 2 tars (0 read)" in again.out
    assert "11 samples in 2 tars (2 read)" in shardkit("index", f"{tars}/shard-*.tar", "--again").out


def test_tars_can_be_looked_at_without_an_index_of_ones_own(shardkit: Command, tars: Path) -> None:
    pattern = f"{tars}/shard-*.tar"
    assert json.loads(shardkit("stats", pattern, "--json").out)["samples"] == 11
    assert "s0003" in shardkit("ls", pattern).out
    assert shardkit("verify", pattern).code == 0
    assert sorted(path.name for path in tars.iterdir()) == ["shard-000.tar", "shard-001.tar"]


def test_what_is_no_record_is_shown_all_the_same(shardkit: Command, tmp_path: Path) -> None:
    write_tar(tmp_path / "odd.tar", [("a/k", {"cls": b"3"}), ("a/p", {"png": png_bytes(), "txt": b"a red box"})])
    shown = shardkit("cat", tmp_path / "odd.tar", "a/k")
    assert shown.code == 0 and "found cls" in shown.out and "1 bytes  cls" in shown.out
    assert "a red box" in shardkit("cat", tmp_path / "odd.tar", "a/p").out
    assert shardkit("report", tmp_path / "odd.tar", "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "a red box" in page and "data:image/png;base64," in page


def test_samples_that_lack_a_member_are_counted(shardkit: Command, tars: Path, tmp_path: Path) -> None:
    outcome = shardkit("index", tars / "shard-000.tar", "--out", tmp_path / "out", "--require", "txt,json")
    assert outcome.code == 0 and "left out" not in outcome.out
    outcome = shardkit("index", tars / "shard-000.tar", "--out", tmp_path / "out", "--require", "jpg")
    assert outcome.code == 2 and "lack a member of --require jpg" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{tars}/none-*.tar"], 2, "matches no file"),
        (["{tars}/shard-{{0..3}}.tar"], 2, "missing"),
        (["{tars}/shard-000.tar", "--require", ","], 2, "empty name"),
        (["{tars}/shard-000.tar", "--out", ""], 2, "names nothing"),
        (["http://127.0.0.1:9/a.tar"], 2, "--out FOLDER"),
        (["http://127.0.0.1:9/*.tar", "--out", "{tars}/x"], 2, "no listing"),
        (["{tars}/shard-000.tar", "{tars}/shard-000.tar"], 2, "named twice"),
    ],
)
def test_bad_input_is_said(shardkit: Command, tars: Path, arguments: list[str], code: int, said: str) -> None:
    outcome = shardkit("index", *(argument.format(tars=tars) for argument in arguments))
    assert outcome.code == code and said in outcome.err, outcome


def test_a_hostile_tar_names_itself_and_the_remedy(shardkit: Command, tars: Path) -> None:
    (tars / "shard-001.tar").write_bytes(hostile.CASES["symlink"][1]())
    outcome = shardkit("index", f"{tars}/shard-*.tar", "--workers", 2)
    assert outcome.code == 4
    assert "shard-001.tar" in outcome.err and "make the tar again" in outcome.err
    assert not (tars / "manifest.json").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_stopped_index_says_how_to_go_on_and_does(shardkit: Command, tars: Path, workers: str) -> None:
    text_tars(tars, [20] * 24)
    command = [sys.executable, "-m", "shardkit", "index", f"{tars}/*.tar", "--workers", workers, "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    running.send_signal(signal.SIGTERM)
    said = running.stderr.read()  # ends when no process of the command is left
    ended = running.wait(timeout=60)
    assert "Traceback" not in said
    assert ended in (143, 0)  # 0 only where it was done before the signal came
    assert ended == 0 or "To go on, run: shardkit index" in said
    outcome = shardkit("index", f"{tars}/*.tar", "--json")
    assert outcome.code == 0
    last = json.loads(outcome.out.splitlines()[-1])
    assert last["samples"] == 480 and last["indexed"] < 24, "what was done before is not done again"
