"""Lines of JSON: strictness, long lines, compression, damage, changes."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused, SourceChanged, SourceDamaged, SpecError
from shardkit.records.normalize import normalize
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.jsonl import Jsonl, read_lines
from shardkit.sources.strict_json import MAX_DEPTH, parse_object
from shardkit.spec import JsonlSource
from tests.sources.kinds import Opened, texts


def spec(path: Path, **fields: object) -> JsonlSource:
    return JsonlSource(name="here", path=str(path), normalizer="question_answer", **fields)  # type: ignore[arg-type]


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not-json"),
        (b"[1]", "not-json"),
        (b"null", "not-json"),
        (b'{"a": 1} {"b": 2}', "not-json"),
        (b'{"a": 1,}', "not-json"),
        (b"{'a': 1}", "not-json"),
        (b'{"a": "\x01"}', "not-json"),
        (b'{"a": 1, "a": 2}', "not-json"),
        (b'{"b": [{"a": 1, "a": 1}]}', "not-json"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "not-json"),
        (b'{"a": ' + b"[" * 100_000, "not-json"),
        (b'{"a": ' * 100_000, "not-json"),
        (b'{"a": NaN}', "not-finite"),
        (b'{"a": [-Infinity]}', "not-finite"),
        (b'{"a": 1e999}', "not-finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not-finite"),
        (b'{"a": "\xff"}', "not-utf8"),
        (b'{"a": "\xed\xa0\x80"}', "not-utf8"),
    ],
)
def test_line_that_is_no_strict_object_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_object(line)
    assert caught.value.reason == reason


def test_nesting_is_refused_at_one_depth_wherever_it_is_called() -> None:
    def deep(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert parse_object(deep(MAX_DEPTH))
    with pytest.raises(Refused, match="nested deeper"):
        parse_object(deep(MAX_DEPTH + 1))


@given(st.binary(max_size=40) | st.text('{}[]":,\\untrfa0eE+-1. ', max_size=30).map(str.encode))
@settings(max_examples=300)
def test_any_bytes_are_an_object_or_refused(line: bytes) -> None:
    try:
        value = parse_object(line)
    except Refused:
        return
    assert value == json.loads(line)


def test_bad_lines_become_bad_rows_between_good_ones(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    path = write(tmp_path / "x.jsonl", b'{"question": "a"}\r', b"{oops", b"", b"  ", b'{"question": "b"}')
    rows = opened(spec(path)).rows()
    assert texts(rows) == ["a", "not-json", "b"]
    assert [row.position for row in rows] == ["x.jsonl:1", "x.jsonl:2", "x.jsonl:5"]


@pytest.mark.parametrize("partitions", [1, 2])
def test_byte_order_mark_at_the_start_of_a_file_is_no_text(tmp_path: Path, partitions: int) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n\xef\xbb\xbf{"a": 3}\r\n'
    (tmp_path / "a.jsonl").write_bytes(data)
    source = Jsonl(JsonlSource(name="here", path=str(tmp_path), normalizer="messages"))
    source.pin(tmp_path / "pins")
    rows = [step.row for part in range(partitions) for step in source.rows(tmp_path / "pins", part, partitions, None)]
    assert [row.fields if isinstance(row, Row) else row.reason for row in rows] == [{"a": 1}, {"a": 2}, "not-json"]


def test_lone_surrogates_end_at_the_normalizer(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(write(tmp_path / "x.jsonl", b'{"question": "\\ud800", "answer": "x"}')))
    [row] = source.rows()
    assert isinstance(row, Row)
    with pytest.raises(Refused, match="not-utf8"):
        normalize(row, source.spec, "r")


class Counted(io.RawIOBase):
    """A file of one endless line that remembers how much was read, and the largest request."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), self.left)
        buffer[:count] = b"x" * count
        self.left -= count
        return count


def test_long_line_is_refused_without_being_held(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    import tracemalloc

    tracemalloc.start()
    [line] = read_lines(io.BufferedReader(Counted(64 << 20)), 0, 0, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (line.data, line.end) == (None, 64 << 20)
    assert peak < 8 << 20
    path = write(tmp_path / "x.jsonl", b'{"question": "a"}', b'"' + b"y" * 5000, b'{"question": "b"}')
    rows = opened(spec(path, line_bytes=1000)).rows()
    assert texts(rows) == ["a", "too-big", "b"]


@pytest.mark.parametrize("length", [999, 1000, 1001])
def test_limit_of_a_line_is_exact(length: int) -> None:
    for data in (b"x" * length, b"x" * length + b"\n", b"x" * length + b"\ny"):
        first = next(read_lines(io.BufferedReader(io.BytesIO(data)), 0, 0, 1000))  # type: ignore[arg-type]
        assert (first.data is None) == (length > 1000)
        assert first.end == min(length + 1, len(data))


def many_lines(count: int) -> bytes:
    return b"".join(
        json.dumps({"question": str(number), "answer": "x" * 50}).encode() + b"\n" for number in range(count)
    )


COMPRESS = {".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_cut_stream_is_noticed_at_every_byte(suffix: str, tmp_path: Path, opened: Callable[..., Opened]) -> None:
    whole = COMPRESS[suffix](many_lines(5))
    path = tmp_path / f"x.jsonl{suffix}"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(
            SourceDamaged, match=r"source here: x\.jsonl.* is damaged or cut off near byte \d+; replace"
        ):
            opened_at = Opened(spec(path), tmp_path / "private")
            opened_at.rows()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_altered_stream_is_never_read_as_other_rows(suffix: str, tmp_path: Path) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    whole = compress(many_lines(3))
    path = tmp_path / f"x.jsonl{suffix}"
    wanted = [str(number) for number in range(3)]
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            assert texts(Opened(spec(path), tmp_path / "private").rows()) == wanted
        except SourceDamaged:
            continue


def test_bomb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(b" " * (256 << 20), 19))
    source = Opened(spec(path), tmp_path / "private")
    tracemalloc.start()
    [row] = source.rows()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(row, BadRow)
    assert peak < 96 << 20


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_change_in_the_middle_is_noticed_before_a_row_of_it(
    suffix: str, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    data = bytearray(many_lines(40_000))
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(gzip.compress(data, 1) if suffix else data)
    source = opened(spec(path))
    wanted = source.rows()
    data[(2 << 20) + 7] ^= 1
    changed = bytearray(path.read_bytes())
    changed[-100] ^= 1
    path.write_bytes(changed)
    seen = []
    with pytest.raises(SourceChanged):
        for step in source.source.rows(source.folder, 0, 1, None):
            seen.append(step.row)
    assert seen == wanted[: len(seen)]
    assert len(seen) < len(wanted)


@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 64])
def test_ranges_of_a_large_file_number_their_lines(
    partitions: int, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(many_lines(40_000))
    source = opened(spec(path))
    steps = [step for partition in range(partitions) for step in source.steps(partition, partitions)]
    assert [step.row.position for step in steps] == [f"x.jsonl:{number + 1}" for number in range(40_000)]
    assert texts([step.row for step in steps]) == [str(number) for number in range(40_000)]


@given(lengths=st.lists(st.integers(0, 12), max_size=12), partitions=st.integers(1, 9), ending=st.booleans())
@settings(max_examples=80)
def test_any_lines_are_covered_once(lengths: list[int], partitions: int, ending: bool) -> None:
    import tempfile

    lines = [b"x" * length for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n" * ending)
        source = Opened(spec(path), Path(folder) / "private")
        steps = [step for partition in range(partitions) for step in source.steps(partition, partitions)]
    wanted = [number + 1 for number, line in enumerate(lines) if line]
    assert [step.row.position for step in steps] == [f"x.jsonl:{number}" for number in wanted]


def test_folder_without_jsonl_is_refused(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SpecError, match="source here: no file matches"):
        opened(spec(tmp_path))


def test_real_lines(shared: Path, opened: Callable[..., Opened]) -> None:
    gsm8k = opened(spec(shared / "text" / "gsm8k.jsonl"))
    drafts = [normalize(row, gsm8k.spec, "r") for row in gsm8k.rows() if isinstance(row, Row)]
    assert len(drafts) == 1000
    assert drafts[0].messages[0].content.startswith("Natalia sold clips to 48 of her friends in April")
    humaneval = opened(spec(shared / "text" / "humaneval.jsonl.gz"))
    assert len(humaneval.rows()) == 164
    assert humaneval.pinned.reread
