"""Headers, spans and whole tars: equal to the standard's, strict with our own, suspicious of others."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused, ShardDamaged
from shardkit.store import tar
from shardkit.store.foreign import ForeignLimits, read_foreign
from shardkit.store.layout import shard_path
from tests.store.made import media_sample, stage, text_sample

KEY = "0123456789abcdef" * 2
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,10}){1,3}", fullmatch=True).filter(
    lambda name: len(name) <= 64 and not name.lower().endswith(".json")
)


def standard_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[329:345] = bytes(16)  # some Pythons write device numbers of regular files as zero digits
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.just("json") | NAMES, st.integers(0, tar.MAX_MEMBER_BYTES))
def test_header_equals_the_standard_librarys(key: bytes, name: str, size: int) -> None:
    header = tar.header(key.hex().encode(), name, size)
    assert header == standard_header(f"{key.hex()}.{name}", size)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(min_size=16, max_size=16), st.just("json") | NAMES, st.integers(0, tar.MAX_MEMBER_BYTES)),
        min_size=1,
    )
)
def test_headers_made_together_are_those_made_alone(members: list[tuple[bytes, str, int]]) -> None:
    keys, names, sizes = zip(*members, strict=True)
    made = bytearray().join(tar.blank_headers(names))
    rows = np.frombuffer(made, dtype=np.uint8).reshape(-1, tar.BLOCK)
    tar.fill_headers(rows, np.arange(len(rows)), "".join(key.hex() for key in keys).encode(), names, np.array(sizes))
    assert made == b"".join(standard_header(f"{key.hex()}.{name}", size) for key, name, size in members)


def test_member_of_8_gib_is_refused() -> None:
    assert tar.header(KEY.encode(), "image0.png", tar.MAX_MEMBER_BYTES)
    with pytest.raises(Refused, match="8 GiB"):
        tar.header(KEY.encode(), "image0.png", tar.MAX_MEMBER_BYTES + 1)


@pytest.mark.parametrize(
    "name", ["image", "a/b.png", "../x.png", "a.json", "ü.png", ".png", "x" * 62 + ".png", "a b.png"]
)
def test_member_name_that_readers_do_not_take_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="member name"):
        tar.check_member(name, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=4, unique_by=lambda part: part[0]))
def test_span_walks_back_to_its_members(parts: list[tuple[str, bytes]]) -> None:
    parts = [("json", b"{}"), *parts]
    span = b"".join(tar.header(KEY.encode(), n, len(d)) + d + tar.padding(len(d)) for n, d in parts)
    key, members = tar.walk_span(memoryview(span), "span")
    assert key.decode() == KEY
    assert [(m.name, span[m.offset : m.offset + m.size]) for m in members] == parts


def test_every_flipped_bit_outside_of_data_is_noticed_by_the_strict_reader() -> None:
    data = bytes(range(1, 100))
    span = b"".join(tar.header(KEY.encode(), n, 99) + data + tar.padding(99) for n in ("json", "image0.png"))
    starts = (512, 1536)
    for bit in range(8 * len(span)):
        at = bit // 8
        if any(start <= at < start + 99 for start in starts) or at < 32:
            continue  # data have digests of their own; the first key is compared with the index
        altered = bytearray(span)
        altered[at] ^= 1 << bit % 8
        with pytest.raises(ShardDamaged):
            tar.walk_span(memoryview(altered), "span")


def whole_tar(tmp_path: Path) -> Path:
    staged = stage(tmp_path, [media_sample(1), text_sample(1), text_sample(2, "x" * 3000)])
    path = tmp_path / "out.tar"
    path.write_bytes(staged.shard.read_bytes())
    return path


def test_strict_reader_lists_what_the_standard_library_lists(tmp_path: Path) -> None:
    path = whole_tar(tmp_path)
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        wanted = [(m.offset, m.name, m.offset_data, m.size) for m in members]
        assert all((m.mtime, m.uid, m.gid, m.mode, m.isreg()) == (0, 0, 0, 0o644, True) for m in members)
    assert list(tar.walk_tar(memoryview(data), "tar")) == wanted


def test_gnu_tar_lists_a_shard(tmp_path: Path) -> None:
    path = whole_tar(tmp_path)
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout.split()
    assert listed == [name for _, name, _, _ in tar.walk_tar(memoryview(path.read_bytes()), "tar")]


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1536), bytes(1024) + b"x", bytes(10240)])
def test_strict_reader_wants_exactly_two_zero_blocks(tmp_path: Path, end: bytes) -> None:
    data = whole_tar(tmp_path).read_bytes()[:-1024] + end
    with pytest.raises(ShardDamaged):
        list(tar.walk_tar(memoryview(data), "tar"))


def made_tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def info(name: str, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def foreign(data: bytes, **limits: int) -> list[tuple[str, bytes]]:
    found = read_foreign(io.BytesIO(data), "foreign.tar", ForeignLimits(**limits) if limits else None)
    return [(member.name, member.data) for member in found]


def test_foreign_reader_takes_what_others_write() -> None:
    long = "d/" + "n" * 150 + ".txt"
    times = (info("./a.txt", mtime=1.5), b"one"), (info("dir", type=tarfile.DIRTYPE), b""), (info(long), b"two" * 300)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert foreign(made_tar(*times, form=form)) == [("a.txt", b"one"), (long, b"two" * 300)]


def test_foreign_reader_gives_offsets_of_data() -> None:
    data = made_tar((info("a.txt", mtime=1.5), b"one"), (info("b.txt"), b"two"), form=tarfile.PAX_FORMAT)
    for member in read_foreign(io.BytesIO(data), "t"):
        assert data[member.offset : member.offset + 3] == member.data


def with_size(octal: bytes) -> bytes:
    data = bytearray(made_tar((info("a.txt"), b"one")))
    data[124:136] = octal
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


HOSTILE = {
    "symlink": made_tar((info("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")),
    "hard link": made_tar((info("a", type=tarfile.LNKTYPE, linkname="b"), b"")),
    "device": made_tar((info("a", type=tarfile.CHRTYPE), b"")),
    "fifo": made_tar((info("a", type=tarfile.FIFOTYPE), b"")),
    "climbs": made_tar((info("a/../../b"), b"x")),
    "absolute": made_tar((info("/etc/passwd"), b"x")),
    "duplicate": made_tar((info("a.txt"), b"x"), (info("./a.txt"), b"y")),
    "pax size": made_tar((info("a", pax_headers={"size": "1099511627776"}), b"x"), form=tarfile.PAX_FORMAT),
    "pax sparse": made_tar(
        (info("a", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "1099511627776"}), b"x"),
        form=tarfile.PAX_FORMAT,
    ),
    "pax link": made_tar((info("a", pax_headers={"linkpath": "/etc"}), b"x"), form=tarfile.PAX_FORMAT),
    "pax name with NUL": made_tar((info("a", pax_headers={"path": "a\0b"}), b"x"), form=tarfile.PAX_FORMAT),
    "chained pax": b"".join(made_tar((info("a", mtime=0.5), b""), form=tarfile.PAX_FORMAT)[:1024] for _ in range(3000)),
    "long pax": made_tar((info("a" * 70_000), b"x"), form=tarfile.PAX_FORMAT),
    "negative size": with_size(b"\xff" * 12),
    "size -5": with_size(b"-0000000005\0"),
    "size in base 256": with_size(b"\x80" + b"\0" * 10 + b"\x03"),
    "size with letters": with_size(b"0000000000x\0"),
    "huge": with_size(b"77777777777\0"),
    "cut": made_tar((info("a.txt"), b"x" * 2000))[:1500],
    "cut in the header": made_tar((info("a.txt"), b"x"))[:300],
    "no end": made_tar((info("a.txt"), b"x"))[:1024],
    "trailing data": made_tar((info("a.txt"), b"x")) + b"more",
    "wrong checksum": b"b" + made_tar((info("a.txt"), b"x"))[1:],
    "no tar": b"\x89PNG" + bytes(2000),
    "not utf-8": made_tar((info("a\udcff"), b"x")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_tar_is_refused_by_both_readers(what: str) -> None:
    with pytest.raises(ShardDamaged):
        foreign(HOSTILE[what])
    with pytest.raises(ShardDamaged):
        list(tar.walk_tar(memoryview(HOSTILE[what]), "tar"))


def test_foreign_reader_bounds_members() -> None:
    data = made_tar((info("a.txt"), b"x" * 100), (info("b.txt"), b"y"))
    with pytest.raises(ShardDamaged, match="100 bytes"):
        foreign(data, member_bytes=99)
    with pytest.raises(ShardDamaged, match="too many members"):
        foreign(data, members=1)


def test_shard_of_ours_is_a_good_foreign_tar(tmp_path: Path) -> None:
    staged = stage(tmp_path, [media_sample(1), text_sample(1)])
    data = staged.shard.read_bytes()
    assert shard_path(staged.entry).endswith(".tar")
    assert [name for name, _ in foreign(data)] == [name for _, name, _, _ in tar.walk_tar(memoryview(data), "t")]
