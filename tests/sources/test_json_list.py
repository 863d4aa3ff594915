"""Lists of JSON objects: where they are found, what is refused, bounds, cuts."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import SourceDamaged, SpecError
from shardkit.records.row import Row
from shardkit.sources import json_list
from shardkit.sources.base import BadRow
from shardkit.spec import JsonSource
from tests.sources.kinds import Opened


def spec(path: Path, **fields: object) -> JsonSource:
    return JsonSource(name="here", path=str(path), normalizer="question_answer", **fields)  # type: ignore[arg-type]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def seen(rows: list[Row | BadRow]) -> list[object]:
    return [row.fields if isinstance(row, Row) else row.reason for row in rows]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"[]", []),
        (b' \n[ {"a": 1} ,\n{"a": "]}\\"\\\\"} ] \n', [{"a": 1}, {"a": ']}"\\'}]),
        (b'\xef\xbb\xbf[{"a": [[{}]]}]', [{"a": [[{}]]}]),
        (b'{"x": "data", "data": [{"a": 1}]}', [{"a": 1}]),
        (b'{"data": 5, "y": {"data": [{"b": 1}]}, "data": [{"a": 1}], "z": [1, 2]}', [{"a": 1}]),
        (b'[1, "x", null, [2], {"a": NaN}, {"a": 1, "a": 2}, {"a": "\xff"}, {"a": 1}]',
         ["not-json", "not-json", "not-json", "not-json", "not-finite", "not-json", "not-utf8", {"a": 1}]),
    ],
)  # fmt: skip
def test_items_of_the_list(data: bytes, rows: list[object], tmp_path: Path, opened: Callable[..., Opened]) -> None:
    assert seen(opened(spec(write(tmp_path / "x.json", data))).rows()) == rows


def test_list_under_another_key(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.json", b'{"data": [{"a": 1}], "rows": [{"a": 2}]}')
    assert seen(opened(spec(path, key="rows")).rows()) == [{"a": 2}]


@pytest.mark.parametrize("data", [b"", b"7", b'"x"', b'{"a": 1}', b'{"a": 1}\n{"a": 2}\n', b'{"data": {}}', b"{"])
def test_file_without_a_list_is_refused_when_planning(
    data: bytes, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    with pytest.raises(
        SpecError, match=r"source here: x\.json is (no whole JSON list|an object without a list 'data')"
    ):
        opened(spec(write(tmp_path / "x.json", data)))


@pytest.mark.parametrize(
    "whole", [b'[{"a": "x]"}, {"a": [1, {"b": 2}]}]', b'{"v": 1, "data": [{"a": 1}], "w": {"x": []}}']
)
def test_cut_is_noticed_at_every_byte(whole: bytes, tmp_path: Path) -> None:
    for length in range(len(whole)):
        with pytest.raises((SourceDamaged, SpecError)):
            Opened(spec(write(tmp_path / "x.json", whole[:length])), tmp_path / "private").rows()


@pytest.mark.parametrize(
    "data", [b"[{}] x", b"[{} {}]", b"[{},]", b"[,{}]", b'{"data": [{}]} 1', b'{"data": [{}], 5: 1}']
)
def test_what_is_no_json_around_the_items_is_noticed(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceDamaged, match="no whole JSON list near byte"):
        Opened(spec(write(tmp_path / "x.json", data)), tmp_path / "private").rows()


def test_item_beyond_the_limit_is_passed_over_in_bounded_memory(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.json", b'[{"a": 1}, {"b": "' + b"x" * (16 << 20) + b']\\"' + b'"}, {"a": 2}]')
    source = opened(spec(path, item_bytes=1 << 18))
    tracemalloc.start()
    rows = source.rows()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen(rows) == [{"a": 1}, "too-big", {"a": 2}]
    assert peak < 6 << 20


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\]}é\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"]', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    items=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=5),
    indent=st.none() | st.just(1),
    piece=st.integers(1, 9),
    wrapped=st.booleans(),
)
@settings(max_examples=50)
def test_any_list_is_read_in_pieces_of_any_size(
    items: list[object], indent: int | None, piece: int, wrapped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("json")
    document = {"before": items[:1], "data": items, "z": ["]"]} if wrapped else items
    source = Opened(spec(write(folder / "x.json", json.dumps(document, indent=indent).encode())), folder / "private")
    usual = json_list.PIECE_BYTES
    json_list.PIECE_BYTES = piece
    try:
        steps = source.steps()
        assert [step.row.fields for step in steps if isinstance(step.row, Row)] == items
        for at, step in enumerate(steps):
            assert source.steps(cursor=step.cursor) == steps[at + 1 :]
    finally:
        json_list.PIECE_BYTES = usual
