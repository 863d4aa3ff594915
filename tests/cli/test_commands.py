"""The commands as a user runs them: exit codes, JSON for machines, what is said to people."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest

from tests.cli.conftest import Command

WriteSpec = Callable[..., Path]
NOTES = "kind: generated, generator: notes, count: {count}, normalizer: question_answer"
MODULE = [sys.executable, "-m", "shardkit"]


@pytest.fixture
def notes(write_spec: WriteSpec) -> Path:
    return write_spec(NOTES.format(count=40), "limits: {shard_samples: 16}")


@pytest.fixture
def dataset(shardkit: Command, notes: Path, tmp_path: Path) -> Path:
    assert shardkit("build", notes, "--out", tmp_path / "data", "--workers", 0).code == 0
    return tmp_path / "data"


def test_json_events_end_with_done(shardkit: Command, notes: Path, tmp_path: Path) -> None:
    outcome = shardkit("build", notes, "--out", tmp_path / "data", "--workers", 0, "--json")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    assert events[-1]["event"] == "done"
    assert events[-1]["dataset"] == str(tmp_path / "data")
    assert (events[-1]["samples"], events[-1]["dead_letters"]) == (40, 0)
    assert re.fullmatch("[0-9a-f]{64}", events[-1]["version"])


def test_same_command_again_changes_nothing(shardkit: Command, notes: Path, dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.suffix in (".tar", ".zst", ".json")}
    outcome = shardkit("build", notes, "--out", dataset, "--workers", 0)
    assert outcome.code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_dry_run_shows_the_plan_and_writes_nothing(shardkit: Command, notes: Path, tmp_path: Path) -> None:
    outcome = shardkit("build", notes, "--out", tmp_path / "data", "--dry-run")
    assert outcome.code == 0
    assert "only" in outcome.out
    assert "estimate" in outcome.out
    assert not (tmp_path / "data").exists()


def test_changed_spec_is_refused_with_what_changed(shardkit: Command, notes: Path, dataset: Path) -> None:
    notes.write_text(notes.read_text().replace("count: 40", "count: 41"))
    outcome = shardkit("build", notes, "--out", dataset, "--workers", 0)
    assert outcome.code == 2
    assert "40" in outcome.err
    assert "41" in outcome.err
    assert "--update" in outcome.err
    assert shardkit("build", notes, "--out", dataset, "--workers", 0, "--update").code == 0


def test_status_and_stats_tell_the_same(shardkit: Command, dataset: Path) -> None:
    status = json.loads(shardkit("status", dataset, "--json").out)
    stats = json.loads(shardkit("stats", dataset, "--json").out)
    assert {"version", "samples", "shards", "bytes", "by_source", "by_modality"} <= set(stats)
    assert (status["samples"], status["version"], status["bytes"]) == (40, stats["version"], stats["bytes"])
    assert status["complete"]


def test_damage_is_exit_4_and_named(shardkit: Command, dataset: Path) -> None:
    assert shardkit("verify", dataset, "--deep").code == 0
    shard = sorted(dataset.glob("shards/*/*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    outcome = shardkit("verify", dataset)
    assert outcome.code == 4
    assert shard.name in outcome.out
    damages = [json.loads(line) for line in shardkit("verify", dataset, "--json").out.splitlines()]
    assert damages[0]["event"] == "damage"
    assert damages[-1]["damages"] == len(damages) - 1


def test_status_of_what_is_no_build_is_explained(shardkit: Command, tmp_path: Path) -> None:
    outcome = shardkit("status", tmp_path)
    assert outcome.code == 2
    assert str(tmp_path) in outcome.err


def test_schema_accepts_a_spec(shardkit: Command, notes: Path, tmp_path: Path) -> None:
    assert shardkit("schema", "--out", tmp_path / "schema.json").code == 0
    schema = json.loads((tmp_path / "schema.json").read_text())
    jsonschema.validate(msgspec.yaml.decode(notes.read_bytes()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "sources": [], "extra": 1}, schema)


def test_serve_gives_the_dataset_to_other_commands(shardkit: Command, dataset: Path) -> None:
    command = [*MODULE, "serve", str(dataset), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert url
        assert urllib.request.urlopen(f"{url[0]}/manifest.json").status == 200
        assert shardkit("verify", url[0]).code == 0
        assert shardkit("stats", f"{url[0]}/").code == 0
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [0, 2])
def test_signal_stops_all_processes_and_names_the_resume(
    write_spec: WriteSpec, tmp_path: Path, number: signal.Signals, code: int, workers: int
) -> None:
    spec = write_spec(NOTES.format(count=500_000) + ", partitions: 2", "limits: {shard_samples: 500}")
    command = [*MODULE, "build", str(spec), "--out", str(tmp_path / "data"), "--workers", str(workers)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, process_group=0)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/.build/lanes/*/*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in err
    assert f"shardkit build {spec}" in err
    with pytest.raises(ProcessLookupError):  # no worker outlives the parent
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_help_has_examples(shardkit: Command) -> None:
    for command in ("build", "status", "stats", "verify", "schema", "serve", "report"):
        assert "Example: shardkit" in shardkit(command, "--help").out
