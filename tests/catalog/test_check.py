"""`shardkit sources check` against a Hub on loopback that has what the entry says, or something else."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.errors import SourceFailed, StorageFailed
from shardkit.records.row import Row
from shardkit.sources.check.columns import fits, row_types, schema_types
from shardkit.sources.check.entry import GONE, check_entry
from shardkit.sources.check.found import Checked
from shardkit.spec.catalog.entry import Entry, is_type
from shardkit.spec.catalog.folder import load_entry
from tests.cli.conftest import Command
from tests.servers.hub import Hub, hub_server

CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
dataset_info:
  splits:
  - {name: train, num_examples: 8}
  - {name: test, num_examples: 3}
---
# Mine
"""
ENTRY = """
name: mine
title: Mine
group: text
id: me/mine
priority: 2
licence: mit
licence_class: free
configs: {default: {train: 8, test: 3}}
columns: {question: string, answer: string, score: float, tags: list<string>, meta: "struct<a,b>", image: image}
source: {kind: hub, split: train, normalizer: question_answer, columns: {question: question, answer: answer}}
"""
ROWS = [
    {
        "question": f"what is {at}?",
        "answer": f"it is {at}",
        "score": at / 2,
        "tags": ["x"],
        "meta": {"a": 1, "b": 2, "c": 3},
        "image": {"bytes": b"", "path": ""},
        "more": at,
    }
    for at in range(8)
]


def parquet(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FILES = {
    "README.md": CARD,
    "data/train-00000-of-00001.parquet": parquet(ROWS),
    "data/test-00000-of-00001.parquet": parquet(ROWS[:3]),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({"me/mine": FILES}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def entry(folder: Path, *changes: tuple[str, str], more: str = "") -> Entry:
    text = ENTRY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.yaml"
    path.write_text(text + more)
    return load_entry(path)


def differences(checked: Checked) -> dict[str, tuple[str, str]]:
    return {difference.fact: (difference.entry, difference.found) for difference in checked.differences}


def test_an_entry_that_is_right(hub: Hub, tmp_path: Path) -> None:
    checked = check_entry(entry(tmp_path, more="unverified: [rows]\n"))
    assert checked.differences == ()
    assert set(checked.agreed) == {"state", "id", "gated", "licence", "configs", "splits", "rows", "columns"}
    assert checked.revision == hub.head("me/mine")
    assert "verified by this, the marks can go: rows" in checked.text()


@pytest.mark.parametrize(
    ("old", "new", "fact", "told"),
    [
        ("answer: string", "reply: string", "columns", ("reply", "none of that name; there are: question, answer, ")),
        ("score: float", "score: bool", "columns", ("score bool", "score float")),
        ("struct<a,b>", "struct<a,d>", "columns", ("meta struct<a,d>", "meta struct<a,b,c>")),
        ("list<string>", "list<int>", "columns", ("tags list<int>", "tags list<string>")),
        ("train: 8, test: 3", "train: 8, dev: 3", "splits", ("default: dev", "default: train, test")),
        ("train: 8, test: 3", "train: 9, test: 3", "rows", ("default/train 9", "8")),
        ("train: 8, test: 3", "train: 8, test: 4", "rows", ("default/test 4", "3")),
        ("licence: mit", "licence: apache-2.0", "licence", ("apache-2.0", "mit")),
        ("{default: {train: 8, test: 3}}", "{default: {train: 8}, en: {train: 1}}", "configs", ("en", "only default")),
        ("priority: 2", "priority: 2\ngated: true", "gated", ("yes", "no")),
    ],
)  # fmt: skip
def test_what_differs_is_told(hub: Hub, tmp_path: Path, old: str, new: str, fact: str, told: tuple[str, str]) -> None:
    checked = check_entry(entry(tmp_path, (old, new)))
    found = differences(checked)
    assert list(found) == [fact]
    assert fact not in checked.agreed
    assert found[fact][0] == told[0]
    assert found[fact][1].startswith(told[1])


def test_rows_are_counted_where_no_card_declares_them(hub: Hub, tmp_path: Path) -> None:
    hub.commit("me/mine", {**FILES, "README.md": CARD.partition("dataset_info")[0] + "---\n"})
    checked = check_entry(entry(tmp_path, ("train: 8, test: 3", "train: 7, test: 5")))
    assert differences(checked) == {"rows": ("default/train 7", "8")}


def test_rounded_rows_may_be_off_a_little(hub: Hub, tmp_path: Path) -> None:
    hub.commit("me/mine", {**FILES, "README.md": CARD.replace("num_examples: 3", "num_examples: 300567")})
    rounded = ("train: 8, test: 3", "train: 8, test: 301_000")
    assert "rows" in differences(check_entry(entry(tmp_path, rounded)))
    assert not check_entry(entry(tmp_path, rounded, more="rounded_rows: true\n")).differences


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("license: cc", "cc-by"),
        ("license: other\nlicense_name: nvidia-license", "nvidia-license"),
        ("license: [mit, apache-2.0]", "mit"),
        ("pretty_name: Mine", "unknown"),
    ],
)
def test_licences_as_cards_declare_them(hub: Hub, tmp_path: Path, card: str, licence: str) -> None:
    hub.commit("me/mine", {**FILES, "README.md": CARD.replace("license: mit", card)})
    assert "licence" in check_entry(entry(tmp_path, ("licence: mit", f"licence: {licence}"))).agreed


def test_a_repository_that_was_renamed(hub: Hub, tmp_path: Path) -> None:
    hub.commit("you/yours", FILES)
    hub.renamed["me/mine"] = "you/yours"
    assert differences(check_entry(entry(tmp_path))) == {"id": ("me/mine", "you/yours")}


def test_a_repository_that_is_gated(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("me/mine")
    checked = check_entry(entry(tmp_path, ("priority: 2", "priority: 2\ngated: true\nstate: gated\nreason: terms")))
    assert not checked.differences
    assert "accept its conditions" in checked.unchecked["columns"]
    assert "gated" in differences(check_entry(entry(tmp_path)))


def test_a_repository_that_is_gone_or_private(hub: Hub, tmp_path: Path) -> None:
    found = differences(check_entry(entry(tmp_path, ("me/mine", "me/nothing"))))
    assert found["state"][0] == "available"
    assert "not found" in found["state"][1].lower() or "not there" in found["state"][1]


def test_an_emptied_repository_that_the_entry_calls_gone(hub: Hub, tmp_path: Path) -> None:
    gone = (ENTRY[ENTRY.index("source:") :], "state: gone\nreason: moved\n")
    hub.commit("me/mine", {"README.md": "---\nlicense: mit\n---\n", ".gitattributes": ""})
    assert not check_entry(entry(tmp_path, gone)).differences
    hub.commit("me/mine", FILES)
    assert differences(check_entry(entry(tmp_path, gone)))["state"] == (
        "gone",
        "2 files of data (data/test-00000-of-00001.parquet, data/train-00000-of-00001.parquet)",
    )


def test_rows_of_json_show_their_columns(hub: Hub, tmp_path: Path) -> None:
    line = {"question": "q", "answer": "a", "score": 1, "tags": None, "meta": {"a": 1, "b": 2}, "image": None}
    files = {"README.md": "---\nlicense: mit\n---\n", "train.jsonl": (json.dumps(line) + "\n") * 3}
    hub.commit("me/mine", files)
    right = entry(tmp_path, ("train: 8, test: 3", "train: 8"))
    checked = check_entry(right)
    assert not checked.differences
    assert "rows" in checked.unchecked
    wrong = check_entry(entry(tmp_path, ("train: 8, test: 3", "train: 8"), ("answer: string", "answer: int")))
    assert differences(wrong) == {"columns": ("answer int", "answer string")}


def test_without_a_network_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(StorageFailed, match="cannot be reached"):
        check_entry(entry(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceFailed, match="HF_HUB_OFFLINE is set"):
        check_entry(entry(tmp_path))


def test_a_repository_of_git(tmp_path: Path) -> None:
    work = tmp_path / "work"
    commands = (["init", "-q", str(work)], ["-C", str(work), "commit", "-q", "--allow-empty", "-m", "x"])
    for command in commands:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    source = f"source: {{kind: git, url: {work}, normalizer: repository_file}}"
    right = entry(tmp_path, (ENTRY[ENTRY.index("source:") :], source))
    assert check_entry(right).agreed == ("state",)
    wrong = entry(tmp_path, (ENTRY[ENTRY.index("source:") :], source.replace("url", "revision: v9, url")))
    assert differences(check_entry(wrong)) == {"state": ("available", "no revision v9")}


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("fatal: repository 'https://github.com/a/b/' not found", True),
        ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", True),
        ("fatal: unable to access 'https://github.com/a/b/': Could not resolve host: github.com", False),
        ("fatal: unable to access 'https://github.com/a/b/': Failed to connect to github.com port 443", False),
    ],
)
def test_a_repository_that_is_gone_and_a_network_that_is_down_are_told_apart(said: str, gone: bool) -> None:
    assert bool(GONE.search(said)) is gone


def test_rows_of_any_other_source_show_their_columns(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    source = f"columns: {{question: string, answer: string}}\nsource: {{kind: jsonl, path: {rows}, normalizer: math}}"
    local = entry(tmp_path, (ENTRY[ENTRY.index("columns:") :], source))
    assert "rows.jsonl" in differences(check_entry(local))["state"][1]
    rows.write_text('{"question": "q", "answer": 7}\n')
    assert differences(check_entry(local)) == {"columns": ("answer string", "answer int")}
    rows.write_text('{"question": "q", "answer": "a"}\n')
    assert check_entry(local).agreed == ("state", "columns")


def test_the_command_exits_with_4_where_something_differs(hub: Hub, tmp_path: Path, shardkit: Command) -> None:
    entry(tmp_path)
    right = shardkit("sources", "check", "mine", "--catalog", tmp_path)
    assert (right.code, right.out.splitlines()[0]) == (0, f"mine at {hub.head('me/mine')[:12]}: as the entry says")
    entry(tmp_path, ("train: 8", "train: 9"))
    wrong = shardkit("sources", "check", "mine", "--catalog", tmp_path, "--json")
    assert wrong.code == 4
    assert json.loads(wrong.out)["differences"] == [{"fact": "rows", "entry": "default/train 9", "found": "8"}]


@pytest.mark.parametrize(
    ("wanted", "found", "right"),
    [
        ("string", "string", True),
        ("string", "int", False),
        ("string", "nothing", True),
        ("float", "int", True),
        ("int", "float", False),
        ("image", "medium", True),
        ("image", "string", False),
        ("class", "int", True),
        ("struct", "struct<a>", True),
        ("struct<a>", "struct<a,b>", True),
        ("struct<a,b>", "struct<a>", False),
        ("list<list<string>>", "list<list<string>>", True),
        ("list<string>", "list<nothing>", True),
        ("list<string>", "string", False),
        ("list<struct<from,value>>", "list<struct<from,value,weight>>", True),
    ],
)
def test_types_that_fit(wanted: str, found: str, right: bool) -> None:
    assert fits(wanted, found) is right


NAMES = st.text("abcdefg", min_size=1)
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_was_found_is_a_type_that_fits_itself(value: object) -> None:
    kind = row_types([Row(position="1", fields={"column": value})])["column"]
    assert is_type(kind)
    assert fits(kind, kind)


@given(st.text("list<struct>,ab", max_size=40) | st.just("list<" * 5000))
def test_any_text_is_a_type_or_is_none(text: str) -> None:
    assert is_type(text) in (True, False)


def test_types_of_a_schema_and_of_rows_are_the_same() -> None:
    record = {"a": "x", "b": 1, "c": 1.5, "d": True, "e": [{"f": "x"}], "g": [["x"]], "h": {"i": 1}}
    schema = schema_types(pa.Table.from_pylist([record]).schema)
    assert schema == row_types([Row(position="1", fields=dict.fromkeys(record)), Row(position="2", fields=record)])
    assert schema == {
        "a": "string", "b": "int", "c": "float", "d": "bool", "e": "list<struct<f>>", "g": "list<list<string>>",
        "h": "struct<i>",
    }  # fmt: skip


def test_a_host_that_does_not_answer_stops_no_other(hub: Hub, tmp_path: Path, shardkit: Command) -> None:
    entry(tmp_path)
    other = ENTRY.replace("name: mine", "name: other").replace(
        "kind: hub,", "kind: hub, endpoint: 'http://127.0.0.1:9',"
    )
    (tmp_path / "other.yaml").write_text(other)
    both = shardkit("sources", "check", "other", "mine", "--catalog", tmp_path)
    assert both.code == 3
    first, second = (line for line in both.out.splitlines() if not line.startswith(" "))
    assert first.startswith("other: not checked: ") and "cannot be reached" in first
    assert second.endswith("as the entry says")
    entry(tmp_path, ("train: 8", "train: 9"))
    assert shardkit("sources", "check", "mine", "other", "--catalog", tmp_path).code == 4


def test_entries_to_check_are_named_or_filtered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shardkit: Command
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert shardkit("sources", "check").code == 2
    chats = shardkit("sources", "check", "--group", "chat", "--json")
    assert chats.code == 3
    found = [json.loads(line) for line in chats.out.splitlines()]
    assert [one["name"] for one in found] == ["no-robots", "oasst2", "openhermes-2-5", "pure-dove"]
    assert all("HF_HUB_OFFLINE" in one["failed"] for one in found)
