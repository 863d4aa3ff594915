"""Files of a Kaggle dataset: pins, zips, credentials, and the fallback where it cannot be had."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardkit.build.run import build
from shardkit.errors import ShardkitError, SourceChanged, SourceDamaged, SourceUnavailable, SpecError
from shardkit.records.row import Row
from shardkit.sources.kaggle import NoZip, unzipped
from shardkit.sources.web_place import BLOCK_BYTES
from shardkit.spec import KaggleSource
from shardkit.store.kaggle import Login, find_login
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store
from tests.build.making import questions, run_command, save_spec, spec_of, write_questions
from tests.servers.kaggle import LOGIN, TOKEN, Kaggle, kaggle_server
from tests.sources.kinds import LINES, Opened, csv_text
from tests.sources.test_http import RECORDS, parquet


def zipped(name: str, data: bytes, *others: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (*others, name):
            archive.writestr(member, data)
    return out.getvalue()


CONTENT = {
    "a.jsonl": "\n".join(LINES).encode(),
    "in/b c.csv": zipped("b c.csv", csv_text(RECORDS)),
    "c.parquet": parquet(9),
    "d.parquet": zipped("other.parquet", parquet(9)),
    "e.json.zip": zipped("e.json", json.dumps([{"question": "q", "answer": "a"}] * 9).encode()),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    with kaggle_server() as server:
        server.content = {1: {}, 3: CONTENT}
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("KAGGLE_USERNAME", LOGIN[0])
        monkeypatch.setenv("KAGGLE_KEY", LOGIN[1])
        yield server


def spec(file: str, **fields: object) -> KaggleSource:
    common = {"name": "here", "normalizer": "question_answer", "dataset": "owner/name", "file": file}
    return KaggleSource(**{**common, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("file", CONTENT)
def test_every_file_is_read_and_resumed_exactly(file: str, server: Kaggle, opened: Callable[..., Opened]) -> None:
    source = opened(spec(file))
    assert source.pinned.revision.startswith("v3-")
    assert bool(source.pinned.reread) == (CONTENT[file][:2] == b"PK")
    steps = source.steps()
    assert len(steps) in (9, 11)
    assert all(isinstance(step.row, Row) for step in steps)
    for at, step in enumerate(steps):
        assert source.steps(cursor=step.cursor) == steps[at + 1 :]
    parts = [step.row for partition in range(3) for step in source.steps(partition, 3)]
    assert sorted(row.position for row in parts) == sorted(step.row.position for step in steps)


def test_secrets_go_to_the_api_alone_and_are_stored_nowhere(server: Kaggle, opened: Callable[..., Opened]) -> None:
    source = opened(spec("a.jsonl"))
    assert len(source.rows()) == len(LINES)
    assert all("authorization" in headers for headers in server.headers)
    assert server.storage.headers
    assert all("authorization" not in headers for headers in server.storage.headers)
    stored = b"".join(path.read_bytes() for path in source.folder.iterdir())
    assert b"canary" not in stored
    assert "canary" not in repr(find_login())


def test_version_is_pinned(server: Kaggle, opened: Callable[..., Opened]) -> None:
    source = opened(spec("a.jsonl"))
    server.content[4] = {"a.jsonl": LINES[0].encode()}
    assert len(source.rows()) == len(LINES)
    assert opened(spec("a.jsonl")).pinned.revision.startswith("v4-")
    assert opened(spec("a.jsonl", version=3)).pinned == source.pinned
    server.content[3] = {"a.jsonl": LINES[0].encode()}
    with pytest.raises(SourceChanged, match="changed since planned"):
        source.rows()


@pytest.mark.parametrize("fault", ["429", "500", "cut", "reset"])
def test_passing_faults_of_both_servers_are_passed(fault: str, server: Kaggle, opened: Callable[..., Opened]) -> None:
    server.faults = [fault, "", fault, "", fault]
    server.storage.faults = [fault]
    source = opened(spec("a.jsonl"))
    server.faults, server.storage.faults = [fault], [fault, fault]
    assert len(source.rows()) == len(LINES)


def test_signed_url_that_expired_is_asked_for_again(server: Kaggle, opened: Callable[..., Opened]) -> None:
    line = json.dumps({"question": "q", "answer": "x" * 9000}) + "\n"
    server.content[3] = {"a.jsonl": line.encode() * (2 * BLOCK_BYTES // len(line))}
    source = opened(spec("a.jsonl"))
    rows = source.source.rows(source.folder, 0, 1, None)
    next(rows)
    asked = len(server.asked)
    server.storage.faults = ["403"]
    assert len([*rows]) == 2 * BLOCK_BYTES // len(line) - 1
    assert not server.storage.faults
    assert len(server.asked) == asked + 1


@pytest.mark.parametrize(
    ("file", "message", "reason"),
    [("none.csv", "has no file 'none.csv'; it has: a.jsonl, c.parquet", "no such file")],
)
def test_file_that_is_not_there(
    file: str, message: str, reason: str, server: Kaggle, opened: Callable[..., Opened]
) -> None:
    with pytest.raises(SourceUnavailable, match=message) as caught:
        opened(spec(file))
    assert caught.value.reason == reason


def forged(name: str, way: int, cut: int = 0) -> bytes:
    """A zip of one file, packed in some way; with `cut` bytes less in front of its list than it says."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", way) as archive:
        archive.writestr(name, b"x" * 100)
    data, at = out.getvalue(), out.getvalue().index(b"PK\x01\x02")
    return data[: at - cut] + data[at:]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (forged("a.csv", zipfile.ZIP_STORED, 60), "no zip that can be read"),
        (forged("a.csv", zipfile.ZIP_BZIP2), "packed by method 12"),
        (forged("a.csv", zipfile.ZIP_LZMA), "packed by method 14"),
    ],
)
def test_zip_that_lies_or_is_packed_strangely_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(NoZip, match=told):
        unzipped(io.BufferedReader(io.BytesIO(data)), "a.csv")  # type: ignore[arg-type]


def test_only_file_of_a_zip_needs_no_name() -> None:
    data = forged("a.csv", zipfile.ZIP_STORED).replace(b"a.csv", b"\0.csv")
    assert unzipped(io.BufferedReader(io.BytesIO(data)), "a.csv").read() == b"x" * 100  # type: ignore[arg-type]


def test_zip_that_is_none_or_of_many_is_refused(server: Kaggle, opened: Callable[..., Opened]) -> None:
    server.content[3] = {
        "x.csv": zipped("a", b"", "b"),
        "y.csv": zipped("y.csv", csv_text(RECORDS))[:-30],
        "z.csv": zipped("in/z.csv", csv_text(RECORDS), "b"),
    }
    assert len(opened(spec("z.csv")).rows()) == 9
    for file in ("x.csv", "y.csv"):
        with pytest.raises((SourceDamaged, SpecError), match="zip"):
            opened(spec(file))


def test_credentials_are_found_where_kaggle_keeps_them(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert find_login(home) == Login()
    assert find_login({"KAGGLE_API_TOKEN": "t", **home}) == Login("Bearer t")
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "u", "key": "k"}')
    stored = find_login(home)
    assert stored == find_login({"KAGGLE_USERNAME": "u", "KAGGLE_KEY": "k"})
    assert find_login({"KAGGLE_CONFIG_DIR": str(tmp_path / ".kaggle")}) == stored
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "u"}')
    with pytest.raises(SpecError, match="holds no username and key"):
        find_login(home)


def first_choice(tmp_path: Path, **fields: object) -> dict[str, object]:
    spare = questions(write_questions(tmp_path / "q.jsonl", range(9)), "spare")
    common = {
        "kind": "kaggle",
        "name": "first",
        "normalizer": "question_answer",
        "dataset": "owner/name",
        "file": "a.jsonl",
    }
    return {**common, "fallback": spare, **fields}


def through_the_command(
    tmp_path: Path, source: dict[str, object], *, out: str, **environment: str
) -> dict[str, object]:
    path = save_spec(tmp_path / "s.yaml", spec_of(source))
    ended = run_command("build", path, "--out", tmp_path / out, "--sample", "5", "--json", **environment)
    assert ended.returncode == 0, ended.stderr
    assert "canary" not in ended.stdout + ended.stderr
    done: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return done


def decision(folder: Path) -> tuple[str, str]:
    [record] = read_manifest(open_store(folder))[1].plan.sources
    return record.kind, record.decision


def test_build_takes_kaggle_first(server: Kaggle, tmp_path: Path) -> None:
    with_key = through_the_command(tmp_path, first_choice(tmp_path), out="a")
    tokens = {"KAGGLE_USERNAME": "", "KAGGLE_KEY": "", "KAGGLE_API_TOKEN": TOKEN}
    with_token = through_the_command(tmp_path, first_choice(tmp_path), out="b", **tokens)
    assert (with_key["samples"], with_key["version"]) == (5, with_token["version"])
    assert decision(tmp_path / "a") == ("kaggle", "")


def test_build_that_is_refused_falls_back_through_the_command(server: Kaggle, tmp_path: Path) -> None:
    done = through_the_command(tmp_path, first_choice(tmp_path), out="out", KAGGLE_KEY="wrong")
    assert done["samples"] == 5
    assert decision(tmp_path / "out") == ("jsonl", "first (kaggle): status 403; taken: fallback spare (jsonl)")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"KAGGLE_KEY": "wrong"}, "status 403"),
        ({"KAGGLE_KEY": ""}, "status 401 without credentials"),
        ({"file": "none.jsonl"}, "no such file"),
        ({"dataset": "owner/gone"}, "status 404"),
        ({"version": 7}, "status 404"),
        ({"KAGGLE_API_ENDPOINT": "http://127.0.0.1:9"}, "no answer"),
    ],
)
def test_build_falls_back_and_the_manifest_says_why(
    case: dict[str, object], reason: str, server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = spec_of(first_choice(tmp_path, **{name: value for name, value in case.items() if name.islower()}))
    with monkeypatch.context() as changed:
        for name in filter(str.isupper, case):
            changed.setenv(name, str(case[name]))
        done = build(made, out=tmp_path / "out", sample=5, workers=0)
    assert done.samples == 5
    assert decision(tmp_path / "out") == ("jsonl", f"first (kaggle): {reason}; taken: fallback spare (jsonl)")
    server.content[7] = CONTENT  # all is well now: the plan stands
    assert build(made, out=tmp_path / "out", sample=5, workers=0).version == done.version
    if reason == "status 403":  # an update decides anew
        build(made, out=tmp_path / "out", sample=5, workers=0, update=True)
        assert decision(tmp_path / "out") == ("kaggle", "")


def test_cut_build_resumes_to_the_same_version(server: Kaggle, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"question": f"{at}?", "answer": "x" * 9000}) for at in range(500)).encode()
    server.content[3] = {"a.jsonl": lines, "b.csv": zipped("b.csv", csv_text([RECORDS[0], *RECORDS[1:] * 50]))}
    sources = [{**first_choice(tmp_path), "name": name, "file": file, "fallback": None}
               for name, file in (("one", "a.jsonl"), ("two", "b.csv"))]  # fmt: skip
    made = spec_of(*sources, limits={"shard_samples": 100})
    whole = build(made, out=tmp_path / "whole", workers=0)
    server.storage.lost_from = BLOCK_BYTES
    with pytest.raises(ShardkitError, match="changed since planned"):
        build(made, out=tmp_path / "cut", workers=0)
    assert list((tmp_path / "cut" / ".build" / "lanes").rglob("*.ckpt"))
    server.storage.lost_from = None
    assert build(made, out=tmp_path / "cut", workers=0).version == whole.version


def test_without_a_fallback_the_next_step_is_said(
    server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "")
    with pytest.raises(SourceUnavailable, match=r"set KAGGLE_USERNAME and KAGGLE_KEY, or ~/\.kaggle/kaggle\.json"):
        build(spec_of(first_choice(tmp_path, fallback=None)), out=tmp_path / "out", sample=5, workers=0)
