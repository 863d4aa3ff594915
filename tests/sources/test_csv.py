"""Records of csv: quotes, line ends, headers, bad records, bounds."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit import open_dataset
from shardkit.errors import SourceDamaged, SpecError
from shardkit.records.row import Row
from shardkit.sources import csv as csv_source
from shardkit.sources.base import BadRow
from shardkit.sources.csv import Dialect, read_records
from shardkit.spec import CsvSource
from tests.build.making import run_command, save_spec, spec_of
from tests.sources.kinds import Opened


def spec(path: Path, **fields: object) -> CsvSource:
    return CsvSource(name="here", path=str(path), normalizer="question_answer", **fields)  # type: ignore[arg-type]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def seen(rows: list[Row | BadRow]) -> list[object]:
    return [list(row.fields.values()) if isinstance(row, Row) else row.reason for row in rows]


def test_quotes_line_feeds_and_blank_lines(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.csv", b'question,answer\r\n"a\nb","say ""\n""hi"""\r\n\r\n5" pipe,\xc3\xa9\r\n"a"b,\r\n')
    rows = opened(spec(path)).rows()
    assert seen(rows) == [["a\nb", 'say "\n"hi"'], ['5" pipe', "é"], ["ab", ""]]
    assert [row.position for row in rows] == ["x.csv:1", "x.csv:2", "x.csv:3"]


def test_bad_records_become_bad_rows_between_good_ones(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.csv", b'question,answer\n1,2\n1\n1,2,3\n\xff,2\na\rb,2\n3,4\n"never,closed\n5,6\n')
    rows = opened(spec(path)).rows()
    assert seen(rows) == [["1", "2"], "not-csv", "not-csv", "not-utf8", "not-csv", ["3", "4"], "not-csv"]
    assert isinstance(rows[-1], BadRow)
    assert rows[-1].detail == "a quote that is never closed"


def test_tabs_delimiters_names_and_quotes_without_meaning(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    tabs = write(tmp_path / "x.tsv", b'question\tanswer\n"a\tb"\n')
    assert seen(opened(spec(tabs, quote="")).rows()) == [['"a', 'b"']]
    bars = write(tmp_path / "y.csv", b"1|2\n3|4")
    got = opened(spec(bars, delimiter="|", header=False, names=("question", "answer"))).rows()
    assert seen(got) == [["1", "2"], ["3", "4"]]
    with pytest.raises(SpecError, match="has 2 columns in its header, `names` has 3"):
        opened(spec(bars, delimiter="|", names=("question", "answer", "more")))
    renamed = opened(spec(bars, delimiter="|", names=("question", "answer"))).rows()
    assert seen(renamed) == [["3", "4"]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delimiter": "ab"}, "delimiter is 'ab'; one ASCII character"),
        ({"quote": "é"}, "quote is 'é'"),
        ({"delimiter": '"'}, "must differ"),
        ({"header": False}, "need `names`"),
        ({"names": ("a", "a")}, "one twice"),
    ],
)
def test_impossible_options_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(Path("x"), **fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n", r"x\.csv has none of the columns that question_answer reads .*; it has: a, b; map them"),
        (b"a,a,question\n", "has a column twice in its header: a; rename one"),
        (b"\xff,question\n", "begins with no header of csv"),
        (b'"question,', "begins with no header of csv"),
    ],
)
def test_header_that_does_not_fit_is_refused_when_planning(
    data: bytes, message: str, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    with pytest.raises(SpecError, match=message):
        opened(spec(write(tmp_path / "x.csv", data)))


def test_record_beyond_the_limit_is_passed_over_in_bounded_memory(
    tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    big = b'"' + b"a line of text\n" * (1 << 18) + b'",2\n'
    path = write(tmp_path / "x.csv", b"question,answer\n1,2\n" + big + b"3,4\n")
    source = opened(spec(path, record_bytes=1 << 18))
    tracemalloc.start()
    rows = source.rows()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen(rows) == [["1", "2"], "too-big", ["3", "4"]]
    assert peak < 5 << 20


def test_fields_longer_than_the_csv_modules_own_limit(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.csv", b"question,answer\n" + b"x" * 300_000 + b",2\n")
    assert seen(opened(spec(path)).rows()) == [["x" * 300_000, "2"]]


def test_cut_gz_is_noticed(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    whole = gzip.compress(b"question,answer\n" + b"1,2\n" * 100_000)
    path = write(tmp_path / "x.csv.gz", whole[:-20])
    with pytest.raises(SourceDamaged, match=r"x\.csv\.gz is damaged or cut off"):
        opened(spec(path)).rows()


def test_builds_of_csv_and_json_through_the_command(tmp_path: Path) -> None:
    write(tmp_path / "x.tsv", b"q\ta\n" + b"".join(b"%d?\tyes\n" % at for at in range(9)))
    write(tmp_path / "y.json", json.dumps({"rows": [{"q": f"{at}!", "a": "no"} for at in range(9)]}).encode())
    common = {"normalizer": "question_answer", "columns": {"question": "q", "answer": "a"}}
    sources = ({"kind": "csv", "name": "one", "path": str(tmp_path / "x.tsv"), **common},
               {"kind": "json", "name": "two", "path": str(tmp_path / "y.json"), "key": "rows", **common})  # fmt: skip
    path = save_spec(tmp_path / "s.yaml", spec_of(*sources))
    ended = run_command("build", path, "--out", tmp_path / "out", "--sample", "5", "--json")
    assert ended.returncode == 0, ended.stderr
    asked = [item.sample.messages[0].content for item in open_dataset(str(tmp_path / "out"))]
    assert asked == [f"{at}?" for at in range(5)] + [f"{at}!" for at in range(5)]


@given(
    text=st.text('a,"\n\r', max_size=14), quote=st.sampled_from(['"', ""]), piece=st.sampled_from([1, 2, 3, 1 << 20])
)
@settings(max_examples=500)
def test_records_end_where_the_csv_module_ends_them(text: str, quote: str, piece: int) -> None:
    dialect = Dialect(",", quote)
    text = text.replace("\r", "\r\n")  # alone it is refused by both
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    wanted = list(csv.reader(io.StringIO(text, newline=""), quoting=quoting, quotechar=quote or None))
    found = []
    end = 0
    stream: Any = io.BufferedReader(io.BytesIO(text.encode()))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(csv_source, "CHUNK_BYTES", piece)
        records = list(read_records(stream, 0, 1000, dialect))
    for record in records:
        assert record.data is not None
        assert record.end == end + len(record.data)
        end = record.end
        found += list(
            csv.reader(io.StringIO(record.data.decode(), newline=""), quoting=quoting, quotechar=quote or None)
        )
    assert found == wanted
    assert end == len(text.encode())
