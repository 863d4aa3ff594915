"""Rows that belong together: what they become, and that any cursor gives exactly the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import SpecError
from shardkit.records.normalize import check_normalizer, columns_read
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Passed, Step
from shardkit.sources.gather import PASSED_ROWS, gathered
from shardkit.sources.table import open_source
from shardkit.spec import JsonlSource, SourceSpec, convert_spec


class Opened:
    """Lines in a file, and the steps that a spec makes of them."""

    def __init__(self, folder: Path, lines: list[Any], **fields: Any) -> None:
        self.folder, path = folder / "pins", folder / "rows.jsonl"
        self.folder.mkdir(exist_ok=True)
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        raw = {"kind": "jsonl", "name": "s", "path": str(path), "normalizer": "rated_responses", **fields}
        self.spec: SourceSpec = convert_spec(raw, JsonlSource, "test")
        self.source = gathered(open_source(self.spec, 0), self.spec)
        self.source.pin(self.folder)

    def steps(self, cursor: Cursor | None = None) -> list[Step]:
        return list(self.source.rows(self.folder, 0, 1, cursor))

    def told(self) -> list[Any]:
        return [told(step.row) for step in self.steps()]


def told(row: Row | BadRow | Passed) -> Any:
    if isinstance(row, Passed):
        return row.count
    if isinstance(row, BadRow):
        return row.reason
    return [fields["n"] for fields in row.fields["rows"]], [fields["n"] for fields in row.fields.get("replies", ())]


def by(*keys: str) -> list[dict[str, Any]]:
    return [{"k": key, "n": number} for number, key in enumerate(keys)]


def test_rows_with_equal_columns_become_one(tmp_path: Path) -> None:
    opened = Opened(tmp_path, by(*"aabccc"), gather={"by": "k"})
    assert opened.told() == [([0, 1], []), ([2], []), ([3, 4, 5], [])]
    first = opened.steps()[0].row
    assert isinstance(first, Row)
    assert (first.position, first.fields["k"]) == ("rows.jsonl:1", "a")


def test_only_rows_that_are_equal_in_all_columns_belong_together(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": {"c": at // 2}, "n": at} for at in range(4)]
    assert Opened(tmp_path, rows, gather={"by": ["a", "b.c"]}).told() == [([0, 1], []), ([2, 3], [])]


def test_a_group_beyond_its_bounds_is_one_refusal(tmp_path: Path) -> None:
    opened = Opened(tmp_path, by(*"abbbbbc"), gather={"by": "k", "max_rows": 3})
    assert opened.told() == [([0], []), "too-big", ([6], [])]
    heavy = [{"k": "a", "n": 0, "text": ["x" * 1000]}, *by("b")]
    assert Opened(tmp_path, heavy, gather={"by": "k", "max_bytes": 1500}).told() == ["too-big", ([0], [])]


def test_a_record_that_is_no_row_ends_a_group(tmp_path: Path) -> None:
    lines = [*by("a"), "{broken", *by("a"), {"n": 7}, *by("a", "a")]
    wanted = [([0], []), "not-json", ([0], []), "missing-field", ([0, 1], [])]
    assert Opened(tmp_path, lines, gather={"by": "k"}).told() == wanted


def test_rows_that_are_not_wanted_are_counted(tmp_path: Path) -> None:
    rows = [{"k": key, "n": number, "ok": number % 2 == 0} for number, key in enumerate("aaabbb")]
    assert Opened(tmp_path, rows, gather={"by": "k"}, where={"ok": True}).told() == [([0, 2], []), 2, ([4], []), 1]
    assert [told_plain(step.row) for step in Opened(tmp_path, rows, unless={"k": ["a", "c"]}).steps()] == [3, 3, 4, 5]
    assert [told_plain(step.row) for step in Opened(tmp_path, rows, where={"ok": 1}).steps()] == [6]


def told_plain(row: Row | BadRow | Passed) -> Any:
    return row.count if isinstance(row, Passed) else row.fields["n"] if isinstance(row, Row) else row.reason


def test_many_rows_passed_over_are_told_in_parts(tmp_path: Path) -> None:
    counts = [told_plain(step.row) for step in Opened(tmp_path, by(*"a" * 2500), where={"k": "b"}).steps()]
    assert counts == [PASSED_ROWS, PASSED_ROWS, 500]


def message(name: str, parent: str | None, *, deleted: bool = False) -> dict[str, Any]:
    role = "assistant" if len(name) % 2 == 0 else "prompter"
    tree = name[:1]
    return {
        "message_id": name,
        "parent_id": parent,
        "role": role,
        "message_tree_id": tree,
        "deleted": deleted,
        "n": name,
    }


def tree(tmp_path: Path, *rows: dict[str, Any], siblings: bool = False) -> list[Any]:
    gather = {"tree": True, "siblings": siblings}
    normalizer = "ranked_replies" if siblings else "tree"
    return Opened(tmp_path, list(rows), gather=gather, normalizer=normalizer).told()


def test_a_tree_becomes_its_conversations(tmp_path: Path) -> None:
    rows = [message(name, name[:-1] or None) for name in ("x", "xa", "xab", "xaba", "xabb", "xac", "xb")]
    paths = [["x", "xa", "xab", "xaba"], ["x", "xa", "xab", "xabb"], ["x", "xb"]]
    assert tree(tmp_path, *rows) == [*((path, []) for path in paths), 1]
    assert tree(tmp_path, *rows, siblings=True) == [(["x"], ["xa", "xb"]), (["x", "xa", "xab"], ["xaba", "xabb"]), 1]


def test_children_may_come_before_their_parents(tmp_path: Path) -> None:
    rows = [message(name, name[:-1] or None) for name in ("xaba", "xab", "xa", "x")]
    assert tree(tmp_path, *rows) == [(["x", "xa", "xab", "xaba"], [])]


def test_nothing_comes_of_what_is_deleted_or_below_it(tmp_path: Path) -> None:
    rows = [message("x", None), message("xa", "x"), message("xab", "xa", deleted=True), message("xaba", "xab")]
    assert tree(tmp_path, *rows) == [(["x", "xa"], []), 2]
    assert tree(tmp_path, message("x", None, deleted=True), message("xa", "x")) == [2]


def test_messages_without_their_parent_are_refused_and_circles_are_not_followed(tmp_path: Path) -> None:
    assert tree(tmp_path, message("x", None), message("xbca", "xbc"), message("xa", "x")) == [
        "no-parent",
        (["x", "xa"], []),
    ]
    assert tree(tmp_path, message("xa", "xb"), message("xb", "xa")) == [2]
    assert tree(tmp_path, message("x", None), message("x", None)) == ["schema", 1]


def test_a_tree_may_be_as_deep_as_it_has_rows(tmp_path: Path) -> None:
    names = ["x" * depth for depth in range(1, 1001)]
    [(path, _)] = tree(tmp_path, *(message(name, name[:-1] or None) for name in names))
    assert path == names


lines = st.lists(
    st.one_of(
        st.builds(lambda key, wanted: {"k": key, "n": 0, "ok": wanted}, st.sampled_from("ab"), st.booleans()),
        st.sampled_from(["{broken", '{"n": 1, "ok": true}']),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("gather")


@given(rows=lines, where=st.sampled_from([{}, {"ok": True}]), keys=st.sampled_from([None, {"by": "k", "max_rows": 3}]))
@settings(max_examples=60)
def test_rows_behind_any_cursor_are_the_rest(folder: Path, rows: list[Any], where: Any, keys: Any) -> None:
    check_every_cut(Opened(folder, rows or [""], where=where, gather=keys))


names = st.lists(st.text("ab", min_size=0, max_size=3).map("x".__add__), unique=True, max_size=10)


@given(trees=st.lists(names, max_size=3), siblings=st.booleans(), gone=st.integers(0, 10))
@settings(max_examples=60)
def test_conversations_behind_any_cursor_are_the_rest(
    folder: Path, trees: list[list[str]], siblings: bool, gone: int
) -> None:
    rows = [
        {**message(name, name[:-1] or None, deleted=at == gone), "message_tree_id": str(number)}
        for number, found in enumerate(trees)
        for at, name in enumerate(found)
    ]
    check_every_cut(Opened(folder, rows or [""], gather={"tree": True, "siblings": siblings}, normalizer="tree"))


def check_every_cut(opened: Opened) -> None:
    steps = opened.steps()
    for at, step in enumerate(steps):
        stored = json.loads(json.dumps(step.cursor))  # cursors pass through commits
        assert opened.steps(stored) == steps[at + 1 :]


def test_rows_are_neither_lost_nor_counted_twice(tmp_path: Path) -> None:
    rows = [message(name, name[:-1] or None, deleted=name == "xb") for name in ("x", "xa", "xb", "xbc", "xac", "xz")]
    outputs = tree(tmp_path, *rows)
    used = {name for output in outputs if not isinstance(output, int) for name in output[0]}
    assert len(used) + sum(output for output in outputs if isinstance(output, int)) == len(rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gather": {"by": "k"}, "partitions": 2}, "partitions is 2; with gather it must be 1"),
        ({"gather": {}}, "give either `by`"),
        ({"gather": {"by": "k", "tree": True}}, "give either `by`"),
        ({"gather": {"by": "k", "siblings": True}}, "`siblings` needs `tree: true`"),
        ({"gather": {"by": "k", "max_rows": 0}}, "must be at least 1"),
        ({}, "found rows as they are; it takes rows that belong together"),
        ({"gather": {"tree": True}}, "found trees of messages"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    raw = {"kind": "jsonl", "name": "s", "path": "p", "normalizer": "rated_responses", **fields}
    with pytest.raises(SpecError, match=message):
        check_normalizer(convert_spec(raw, JsonlSource, "test"))


def test_columns_that_are_asked_for_are_read() -> None:
    raw = {"kind": "jsonl", "name": "s", "path": "p", "normalizer": "tree", "gather": {"tree": True}}
    spec = msgspec.convert({**raw, "where": {"lang": "en"}, "columns": {"deleted": "gone"}}, JsonlSource)
    assert {"lang", "gone", "message_id", "parent_id", "message_tree_id", "role", "text"} <= set(columns_read(spec))
