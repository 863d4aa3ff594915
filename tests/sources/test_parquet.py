"""Parquet: columns, media in structs, damage, changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from shardkit.errors import SourceChanged, SpecError
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.spec import ParquetSource
from tests.sources.kinds import Opened, in_parquet, texts


def spec(path: Path, normalizer: str = "question_answer", **fields: object) -> ParquetSource:
    return ParquetSource(name="here", path=str(path), normalizer=normalizer, **fields)  # type: ignore[arg-type]


def test_rows_hold_the_needed_columns_and_media(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    rows = opened(in_parquet(tmp_path)).rows()
    assert rows[6] == Row(
        position="a.parquet:7",
        fields={"question": "6?", "answer": "yes", "image.path": "6.png"},
        blobs={"image": b"\x06"},
    )
    assert [row.position for row in rows[7:9]] == ["b.parquet:1", "b.parquet:2"]
    assert rows[-1].position == "b.parquet:43"
    assert len(rows) == 50


def test_mapped_columns_lists_of_media_and_binary(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    table = pyarrow.table({
        "q": ["a"], "answer": ["b"], "audio": [b"sound"],
        "pages": [[{"bytes": b"1", "path": None}, {"bytes": b"2", "path": "x"}]],
    })  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    [row] = opened(spec(tmp_path / "x.parquet", columns={"question": "q", "image": "pages"})).rows()
    assert isinstance(row, Row)
    assert row.blobs == {"audio": b"sound", "pages.0": b"1", "pages.1": b"2"}
    assert row.fields["q"] == "a"


def test_text_that_is_not_utf8_is_one_bad_row(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    text = pyarrow.array([b"good", b"\xff", b"fine"]).cast(pyarrow.binary())
    broken = pyarrow.StringArray.from_buffers(3, text.buffers()[1], text.buffers()[2])
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "x.parquet")
    rows = opened(spec(tmp_path / "x.parquet", "plain_text")).rows()
    assert texts(rows) == ["good", "not-utf8", "fine"]


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -8])
def test_cut_file_is_refused_at_the_plan(keep: int, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    made = in_parquet(tmp_path)
    path = tmp_path / "pq" / "b.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SpecError, match=r"source s: b\.parquet is not a whole parquet file; replace it"):
        opened(made)


def test_file_without_the_columns_is_refused(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    in_parquet(tmp_path)
    with pytest.raises(SpecError, match=r"none of the columns .*it has: question, answer, unread, image"):
        opened(spec(tmp_path / "pq", "plain_text"))


def test_parquet_without_rows_is_refused(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "x.parquet")
    with pytest.raises(SpecError, match="have no rows"):
        opened(spec(tmp_path, "plain_text"))


def test_file_that_changed_since_planned_stops_the_lane(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    source = opened(in_parquet(tmp_path))
    path = tmp_path / "pq" / "a.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceChanged, match=r"a\.parquet changed since planned"):
        source.rows()


def test_no_row_is_a_bad_row_in_a_good_file(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    assert not any(isinstance(row, BadRow) for row in opened(in_parquet(tmp_path)).rows())
