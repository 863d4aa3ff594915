"""Directories of zips: the same members as Python's own reader finds, and what is refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused, SourceDamaged
from shardkit.sources.archives.zip_directory import Member, read_members
from shardkit.sources.archives.zips import Found, Zips
from shardkit.sources.listing import Entry
from shardkit.sources.places import Fits, Selected

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=20)
COMMENTS = st.binary(max_size=40).filter(lambda comment: b"PK\5\6" not in comment)
"""Python's reader takes the mark of a directory's end within a comment for that end; see below for ours."""
FILES = st.dictionaries(NAMES, st.binary(max_size=300), max_size=6)


def zipped(files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.comment = comment
        for name, data in files:
            with file.open(name, "w", force_zip64=True) as member:
                member.write(data)
    return out.getvalue()


def members(data: bytes) -> list[Member]:
    return list(read_members(io.BufferedReader(io.BytesIO(data)), len(data), "here"))  # type: ignore[arg-type]


class Held:
    """One file in memory, as a place."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pin(self, folder: Path, selected: Selected, fits: Fits = lambda size: True) -> tuple[str, int, int]:
        raise NotImplementedError

    def open(self, entry: Entry) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type]


def contents(data: bytes, most_bytes: int = 1 << 20) -> dict[str, bytes | str]:
    """What is read of each member, or why not."""
    zips = Zips(Held(data), (Entry(b"a.zip", len(data), b""),), most_bytes)
    found: dict[str, bytes | str] = {}
    for one in members(data):
        try:
            found[one.name] = zips.read(Found(0, one.offset, one.packed, one.size, one.crc, one.method))
        except Refused as refused:
            found[one.name] = refused.reason
    zips.close()
    return found


@given(files=FILES, before=st.binary(max_size=40), comment=COMMENTS, stored=st.booleans())
@settings(max_examples=60, deadline=None)
def test_members_are_those_that_python_finds(
    files: dict[str, bytes], before: bytes, comment: bytes, stored: bool
) -> None:
    data = before + zipped(files.items(), zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED, comment)
    theirs = zipfile.ZipFile(io.BytesIO(data)).infolist()
    assert [(one.name, one.size, one.packed, one.crc, one.offset) for one in members(data)] == [
        (info.orig_filename, info.file_size, info.compress_size, info.CRC, info.header_offset) for info in theirs
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"a program that unpacks itself"])
def test_zip64_is_read(monkeypatch: pytest.MonkeyPatch, method: int, before: bytes) -> None:
    files = {"a.txt": b"text" * 9, "b/c.txt": b"more" * 90, "é": b""}
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    data = zipped(files.items(), method)
    assert b"PK\6\6" in data
    assert contents(before + data) == files


def test_a_comment_may_hold_the_mark_of_the_end() -> None:
    data = zipped([("a", b"one")], comment=b"PK\5\6" + bytes(18) + b"more")
    assert contents(data) == {"a": b"one"}


def test_a_member_is_unpacked_within_the_limit() -> None:
    data = zipped([("a", bytes(5000)), ("b", bytes(5001))])
    assert contents(data, most_bytes=5000) == {"a": bytes(5000), "b": "too-big"}


def test_a_member_that_unpacks_to_more_than_it_says_is_refused_before_it_does() -> None:
    data = bytearray(zipped([("a", bytes(30_000_000))]))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<L", 50)
    tracemalloc.start()
    try:
        assert contents(bytes(data)) == {"a": "member-damaged"}
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("offset", [0, 30, 61])
def test_damage_in_one_member_is_its_own(offset: int) -> None:
    data = bytearray(zipped([("a", b"one" * 50 + bytes(range(99))), ("b", b"two")]))
    data[offset] ^= 0xFF
    found = contents(bytes(data))
    assert found["b"] == b"two"
    assert (found["a"] == "member-damaged") == (offset != 30)  # a local header's name is never looked at


def flagged(flags: int) -> bytes:
    data = bytearray(zipped([("a", b"one")]))
    at = data.index(b"PK\1\2")
    data[at + 8] |= flags
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no directory"),
        (b"PK\3\4 and no more", "no directory"),
        (zipped([("a", b"one")])[:-1], "no directory"),
        (flagged(1), "'a', which is encrypted"),
        (zipped([("a", b"one")], zipfile.ZIP_BZIP2), "packed by method 12"),
        (zipped([("a", b"one")]).replace(b"PK\5\6\0\0", b"PK\5\6\1\0"), "several parts"),
        (zipped([("a", b"one")])[10:], "lies where it cannot|not there"),
        (zipped([("a", b"one")]).replace(b"PK\1\2", b"PK\1\3"), "fewer entries"),
    ],
)
def test_what_is_no_plain_zip_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(SourceDamaged, match=told):
        members(data)


WHOLE = zipped([("a.txt", b"text" * 30), ("b.txt", bytes(200)), ("c", b"")], comment=b"c")


@given(at=st.integers(0, len(WHOLE) - 1), bits=st.integers(1, 255), cut=st.integers(0, len(WHOLE)))
@settings(max_examples=150, deadline=None)
def test_altered_zips_give_true_bytes_or_errors_of_ours(at: int, bits: int, cut: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= bits
    for altered in (bytes(data), WHOLE[:cut]):
        try:
            found = contents(altered)
        except SourceDamaged:
            continue
        true = {b"text" * 30, bytes(200), b""}
        assert all(isinstance(one, str) or one in true for one in found.values())
