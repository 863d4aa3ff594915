"""Commands that check, divide and account for a dataset, as somebody new to them uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit.read.serve import serve_folder
from tests.cli.conftest import Command
from tests.media.making import encoded, picture
from tests.read.foreign import write_tar

ROWS: list[Any] = [
    *({"task": f"Write f{at}.", "code": f"return {at}", "tests": f"\n\ncheck(f{at})\n"} for at in range(30)),
    {"task": "Without code."},
]
SPEC = """
name: tasks
sources:
  - {kind: jsonl, name: tasks, path: PATH, normalizer: code_task, licence: LICENCE, columns: {solution: code}}
"""


@pytest.fixture
def dataset(shardkit: Command, tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in ROWS) + b"{\n")
    spec = tmp_path / "tasks.yaml"
    spec.write_text(SPEC.replace("PATH", str(tmp_path / "rows.jsonl")).replace("LICENCE", "mit"))
    assert shardkit("build", spec, "--out", tmp_path / "data", "--workers", 0).code == 0
    return tmp_path / "data"


def test_ls_lists_refused_rows_from_a_folder_and_a_url(shardkit: Command, dataset: Path) -> None:
    lines = shardkit("ls", dataset, "--refused").out.splitlines()
    assert [line.split(":")[1].split()[1] for line in lines] == ["missing-field", "not-json"]
    with serve_folder(dataset) as server:
        rows = [json.loads(line) for line in shardkit("ls", server.url, "--refused", "--json").out.splitlines()]
    assert [(row["source"], row["position"], row["reason"]) for row in rows] == [
        ("tasks", "rows.jsonl:31", "missing-field"),
        ("tasks", "rows.jsonl:32", "not-json"),
    ]
    assert len(shardkit("ls", dataset, "--refused", "--limit", 1).out.splitlines()) == 1
    both = shardkit("ls", dataset, "--refused", "--where", "images>0")
    assert (both.code, "give one of them" in both.err) == (2, True)


def test_ls_says_that_nothing_was_found(shardkit: Command, dataset: Path) -> None:
    nothing = shardkit("ls", dataset, "--where", "images>0")
    assert (nothing.code, nothing.out, "none of 30 samples" in nothing.err) == (0, "", True)
    assert shardkit("ls", dataset, "--where", "images>0", "--json").err == ""


def test_split_says_which_field_nothing_has(shardkit: Command, dataset: Path) -> None:
    told = "no sample has provenance.speker: nothing was kept together by it"
    assert told in shardkit("split", dataset, "--group", "provenance.speker,id", "--dry-run").out
    assert "no sample has" not in shardkit("split", dataset, "--dry-run").out
    figures = json.loads(shardkit("split", dataset, "--group", "provenance.speker", "--dry-run", "--json").out)
    assert figures["absent"] == ["provenance.speker"]


@pytest.mark.parametrize("command", ["split", "status", "serve"])
def test_a_url_is_no_folder(shardkit: Command, command: str) -> None:
    outcome = shardkit(command, "http://127.0.0.1:1/x")
    assert outcome.code == 2
    assert "http://127.0.0.1:1/x is a URL; give the folder" in outcome.err


def test_lineage_keeps_texts_of_several_lines_in_their_column(shardkit: Command, dataset: Path) -> None:
    key = shardkit("ls", dataset, "--limit", 1).out.split()[0]
    lines = shardkit("lineage", dataset, key).out.splitlines()
    start = lines[0].index(key)
    assert all(line[start - 2 : start] == "  " for line in lines)
    assert "tests" + " " * (start - 5) + "check(f0)" in lines


def test_validate_refuses_what_it_would_not_do(shardkit: Command, dataset: Path) -> None:
    for option in ("--secrets", "--personal"):
        outcome = shardkit("validate", dataset, option, "redact")
        assert (outcome.code, "validate changes nothing" in outcome.err) == (2, True)
    outcome = shardkit("validate", dataset, "--licences", "fre")
    assert (outcome.code, "'fre', which is no class (free, " in outcome.err) == (2, True)
    assert shardkit("validate", dataset, "--licences", "free").code == 0


def test_validate_makes_the_folders_of_its_report(shardkit: Command, dataset: Path, tmp_path: Path) -> None:
    assert shardkit("validate", dataset, "--report", tmp_path / "new" / "r.json").code == 0
    assert json.loads((tmp_path / "new" / "r.json").read_text())["good"] == 30


def test_validate_looks_into_tars_that_others_made(shardkit: Command, tmp_path: Path) -> None:
    whole = encoded(picture(40, 30), "PNG")
    write_tar(
        tmp_path / "theirs.tar",
        [
            ("good", {"png": whole, "txt": b"a picture"}),
            ("cut", {"png": whole[:-40], "txt": b"half a picture"}),
            ("what", {"bin": b"neither"}),
        ],
    )
    outcome = shardkit("validate", tmp_path / "theirs.tar", "--json")
    found = json.loads(outcome.out)
    assert (outcome.code, found["samples"], found["good"]) == (1, 3, 1)
    assert {fault["reason"]: fault["examples"][0]["key"] for fault in found["faults"]} == {
        "image-damaged": "cut",
        "schema": "what",
    }
    lines = shardkit("lineage", tmp_path / "theirs.tar", "good").out.splitlines()
    assert not any(line.split()[0] in ("revision", "row") for line in lines)
    assert any("indexed where it lies, in theirs.tar" in line for line in lines)


def test_validation_shows_where_personal_data_stand(shardkit: Command, tmp_path: Path) -> None:
    text = "word " * 400 + "write to jane.roe@mail.org please " + "more " * 200
    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": text}]
    (tmp_path / "rows.jsonl").write_bytes(msgspec.json.encode({"messages": turns}) + b"\n")
    outcome = shardkit("validate", tmp_path / "rows.jsonl", "--personal", "refuse", "--json")
    [fault] = json.loads(outcome.out)["faults"]
    excerpt = fault["examples"][0]["excerpt"]
    assert "write to [redacted email] please" in excerpt
    assert excerpt.startswith("…") and excerpt.endswith("…")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.csv", b"question,answer\n", "a source of kind csv"),
        ("rows.parquet", b"PAR1", "a source of kind parquet"),
        ("picture.png", b"\x89PNG", "a source of kind files"),
        ("pictures/a.png", b"\x89PNG", "pictures holds no JSON lines (.jsonl, .jsonl.gz, .jsonl.zst, .ndjson)"),
    ],
)
def test_what_is_no_json_lines_is_named_with_what_reads_it(
    shardkit: Command, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    subject = tmp_path / name.partition("/")[0]
    for command in (("validate", subject), ("import", subject, "--out", tmp_path / "out")):
        outcome = shardkit(*command)
        assert (outcome.code, told in outcome.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_import_of_nothing_or_into_nothing_is_refused(
    shardkit: Command, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty shell variable must not mean the folder in which one happens to be."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert "FILE names nothing" in shardkit("import", "").err
    assert "--out names nothing" in shardkit("import", "rows.jsonl", "--out", "").err
    assert "is a dataset already" in shardkit("import", dataset).err
    assert sorted(tmp_path.rglob("*")) == before


def test_import_of_rows_without_messages_says_what_reads_them(shardkit: Command, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "why?", "answer": "so"}\n')
    outcome = shardkit("import", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--workers", 0)
    assert outcome.code == 2
    assert "refused: 1 missing-field" in outcome.err and "a normalizer such as question_answer" in outcome.err
