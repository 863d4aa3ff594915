"""Files at URLs: formats over ranges, pins, changes, faults, whole builds through the command."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardkit.build.run import build
from shardkit.errors import ShardkitError, SourceChanged, SourceUnavailable, SpecError
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.http import short_names
from shardkit.sources.web_place import BLOCK_BYTES
from shardkit.spec import HttpSource
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store
from tests.build.making import questions, run_command, save_spec, spec_of, write_questions
from tests.servers.files import Files, file_server
from tests.sources.kinds import LINES, Opened, csv_text

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc00000030101"
    "0018dd8db00000000049454e44ae426082"
)


@pytest.fixture
def server() -> Iterator[Files]:
    with file_server() as server:
        yield server


def spec(server: Files, *paths: str, **fields: object) -> HttpSource:
    urls = tuple(f"{server.url}{path}" for path in paths)
    return HttpSource(**{"name": "here", "normalizer": "question_answer", "urls": urls, **fields})  # type: ignore[arg-type]


def questions_of(rows: list[Row | BadRow]) -> list[object]:
    return [row.fields["question"] if isinstance(row, Row) else row.reason for row in rows]


def parquet(count: int) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    table = pyarrow.table({"question": [f"{at}?" for at in range(count)], "answer": ["yes"] * count})
    pyarrow.parquet.write_table(table, out, row_group_size=4)
    return out.getvalue()


RECORDS = [["question", "answer"], *([f"{at}?", "yes"] for at in range(9))]
CONTENT = {
    "/d/a.jsonl": "\n".join(LINES).encode(),
    "/d/b.jsonl.gz": gzip.compress("\n".join(LINES).encode()),
    "/d/c.csv": csv_text(RECORDS),
    "/d/d.json": json.dumps([{"question": f"{at}?", "answer": "yes"} for at in range(9)]).encode(),
    "/d/e.parquet": parquet(9),
}


@pytest.mark.parametrize("path", CONTENT)
@pytest.mark.parametrize("partitions", [1, 3])
def test_every_format_is_read_and_resumed_exactly(
    path: str, partitions: int, server: Files, opened: Callable[..., Opened]
) -> None:
    server.content = CONTENT
    source = opened(spec(server, path))
    whole = {row.position: row for row in source.rows()}
    assert len(whole) in (9, 11)
    covered = []
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        covered += [step.row for step in steps]
        for at, step in enumerate(steps):
            assert source.steps(partition, partitions, step.cursor) == steps[at + 1 :]
    assert {row.position: row for row in covered} == whole
    assert len(covered) == len(whole)


def test_media_one_file_a_row_and_one_that_is_gone(server: Files, opened: Callable[..., Opened]) -> None:
    server.content = {"/d/x/1.png": PNG, "/d/y/2.PNG": PNG}
    source = opened(spec(server, "/d/x/1.png", "/d/none.png", "/d/y/2.PNG", normalizer="unlabelled"))
    first, gone, last = source.rows()
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(gone, BadRow)
    assert (first.position, first.blobs) == ("x/1.png", {"image": PNG})
    assert (last.position, last.blobs) == ("y/2.PNG", {"image": PNG})
    assert (gone.position, gone.reason) == ("none.png", "no-media")


def test_media_of_which_none_can_be_had_are_no_source(server: Files, opened: Callable[..., Opened]) -> None:
    with pytest.raises(SourceUnavailable, match="status 404"):
        opened(spec(server, "/a.png", "/b.png", normalizer="unlabelled"))


def test_braces_and_a_list_of_urls(server: Files, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    server.content = {f"/p{at}.jsonl": LINES[at].encode() for at in range(4)}
    listed = tmp_path / "urls.txt"
    listed.write_text(f"# remark\n\n{server.url}/p3.jsonl\n")
    source = opened(spec(server, "/p{0..2}.jsonl", list=str(listed), allow_private=True))
    assert [row.position for row in source.rows()] == [f"p{at}.jsonl:1" for at in range(4)]
    with pytest.raises(SpecError, match=r"private network.*allow_private"):
        opened(spec(server, "/p0.jsonl", list=str(listed)))


def test_query_and_login_reach_the_server_but_no_position(server: Files, opened: Callable[..., Opened]) -> None:
    server.content = CONTENT
    url = server.url.replace("http://", "http://me:pass@") + "/d/a.jsonl?token=canary"
    source = opened(HttpSource(name="here", normalizer="question_answer", urls=(url,)))
    assert len(source.rows()) == len(LINES)
    assert server.asked[0] == "/d/a.jsonl?token=canary"
    assert "authorization" in server.headers[0]
    listing = (source.folder / "listing").read_bytes()
    assert b"canary" not in listing + repr(source.rows()).encode()
    assert b"127.0.0.1" not in listing


@pytest.mark.parametrize("tags", [True, False])
def test_change_between_and_within_is_noticed(tags: bool, server: Files, opened: Callable[..., Opened]) -> None:
    line = b'{"question": "q", "answer": "' + b"x" * 1000 + b'"}\n'
    server.content = {"/a.jsonl": line * (2 * BLOCK_BYTES // len(line))}
    server.tags = tags
    source = opened(spec(server, "/a.jsonl"))
    rows = source.source.rows(source.folder, 0, 1, None)
    next(rows)
    server.content = {"/a.jsonl": line.replace(b'q"', b'r"') * (2 * BLOCK_BYTES // len(line))}
    server.when = server.when.replace("08", "09")
    with pytest.raises(SourceChanged, match="changed since planned"):
        list(rows)
    with pytest.raises(SourceChanged, match="changed since planned"):
        source.rows()
    server.content = {}
    with pytest.raises(SourceChanged, match="it is gone"):
        source.rows()


def test_change_of_length_alone_is_noticed(server: Files, opened: Callable[..., Opened]) -> None:
    server.content = {"/a.jsonl": "\n".join(LINES).encode()}
    server.tags, server.when = False, ""
    source = opened(spec(server, "/a.jsonl"))
    server.content = {"/a.jsonl": "\n".join([*LINES, LINES[0]]).encode()}
    with pytest.raises(SourceChanged, match="another length"):
        source.rows()


def test_digest_is_checked_when_planning_and_chunks_when_reading(server: Files, opened: Callable[..., Opened]) -> None:
    server.content = {"/a.jsonl": "\n".join(LINES).encode()}
    server.tags = False
    url = f"{server.url}/a.jsonl"
    good = hashlib.sha256(server.content["/a.jsonl"]).hexdigest()
    source = opened(spec(server, "/a.jsonl", digests={url: good}))
    assert len(source.rows()) == len(LINES)
    with pytest.raises(SpecError, match=f"has SHA-256 {good}, the spec says {'0' * 64}"):
        opened(spec(server, "/a.jsonl", digests={url: "0" * 64}))
    with pytest.raises(SpecError, match="none of its URLs"):
        opened(spec(server, "/a.jsonl", digests={"http://x/y": good}))
    server.content = {"/a.jsonl": server.content["/a.jsonl"].replace(b"0?", b"1?")}
    with pytest.raises(SourceChanged, match="other bytes"):
        source.rows()


@pytest.mark.parametrize("fault", ["429", "503", "cut", "reset"])
def test_passing_faults_are_passed(fault: str, server: Files, opened: Callable[..., Opened]) -> None:
    server.content = CONTENT
    server.faults = [fault, "", fault, "", fault]
    source = opened(spec(server, "/d/a.jsonl"))
    server.faults = [fault, fault]
    assert len(source.rows()) == len(LINES)
    assert not server.faults


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_what_cannot_be_had_is_said_and_falls_back(
    fault: str, server: Files, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    server.content = CONTENT
    server.faults = [fault] * 20
    with pytest.raises(SourceUnavailable, match=f"status {fault}"):
        opened(spec(server, "/d/a.jsonl"))
    server.faults = [fault] * 20
    first = {"kind": "http", "name": "first", "normalizer": "question_answer", "urls": [f"{server.url}/d/a.jsonl"]}
    made = spec_of({**first, "fallback": questions(write_questions(tmp_path / "q.jsonl", range(9)), "spare")})
    done = build(made, out=tmp_path / "out", sample=5, workers=0)
    _, manifest = read_manifest(open_store(tmp_path / "out"))
    [record] = manifest.plan.sources
    assert record.decision == f"first (http): a.jsonl: status {fault}; taken: fallback spare (jsonl)"
    assert done.samples == 5
    server.faults = []  # the source is there again: the plan stands
    assert build(made, out=tmp_path / "out", sample=5, workers=0).version == done.version


def test_formats_that_differ_or_are_unknown_are_refused(server: Files, opened: Callable[..., Opened]) -> None:
    server.content = CONTENT
    with pytest.raises(SpecError, match="its files tell csv, jsonl; wanted files of one format"):
        opened(spec(server, "/d/a.jsonl", "/d/c.csv"))
    with pytest.raises(SpecError, match="tell none that is known"):
        opened(spec(server, "/d/what"))
    with pytest.raises(SpecError, match="is no URL of http"):
        opened(HttpSource(name="x", normalizer="plain_text", urls=("/etc/a.jsonl",)))


def test_cut_build_resumes_to_the_same_version(server: Files, tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"{at}?", "answer": "x" * 9000}) for at in range(1000)]
    server.content = {f"/p{at}.jsonl": "\n".join(lines[at::2]).encode() for at in range(2)}
    source = {"kind": "http", "name": "web", "normalizer": "question_answer", "urls": [f"{server.url}/p{{0..1}}.jsonl"]}
    made = spec_of(source, limits={"shard_samples": 100})
    whole = build(made, out=tmp_path / "whole", workers=0)
    server.lost_from = BLOCK_BYTES
    with pytest.raises(ShardkitError, match="changed since planned"):
        build(made, out=tmp_path / "cut", workers=0)
    assert list((tmp_path / "cut" / ".build" / "lanes").rglob("*.ckpt"))
    server.lost_from = None
    path = save_spec(tmp_path / "s.yaml", made)
    again = run_command("build", path, "--out", tmp_path / "cut", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["version"] == whole.version


def test_names_are_short_and_differ() -> None:
    assert short_names(["http://u:p@h/a/b/c.csv?k=1"]) == ["c.csv"]
    assert short_names(["http://h/a/b/c.csv", "http://h/a/d.csv"]) == ["b/c.csv", "d.csv"]
    assert short_names(["http://h/a/c.csv", "http://g/a/c.csv"]) == ["h/a/c.csv", "g/a/c.csv"]
