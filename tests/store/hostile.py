"""Tars and zstd files that mean harm or are broken, each built here, by name.

Here: `CASES`, name -> the file's ending and a function that makes its bytes; `ODD`, what others write in good faith.
Elsewhere: who must refuse them (test_hostile.py, tests/conformance).

Nothing here is large: what claims to be huge only claims it. Sparse files of real size are made in the tests.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable

import zstandard

Make = Callable[[], bytes]


def info(name: str, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def made_tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def plain(*names: str, size: int = 10) -> bytes:
    return made_tar(*((info(name), name.encode()[:1] * size) for name in names))


def special(kind: bytes, **fields: object) -> bytes:
    """A good sample, then something that is no regular file."""
    return made_tar((info("a.txt"), b"x"), (info("b.txt", type=kind, **fields), b""), (info("c.txt"), b"x"))


def pax(**headers: str) -> bytes:
    return made_tar((info("a.txt", pax_headers=headers), b"x"), form=tarfile.PAX_FORMAT)


def patched(offset: int, field: bytes, data: bytes | None = None, *, checksum: bool = True) -> bytes:
    """A tar whose first header has `field` at `offset`, its checksum mended."""
    found = bytearray(plain("a.txt", "b.txt") if data is None else data)
    found[offset : offset + len(field)] = field
    if checksum:
        found[148:156] = b" " * 8
        found[148:156] = b"%06o\0 " % sum(found[:512])
    return bytes(found)


def with_size(field: bytes) -> bytes:
    return patched(124, field)


def extension(kind: bytes, size: int, data: bytes) -> bytes:
    """An extension header that claims `size` bytes and the data that follow it, before a file."""
    header = bytearray(made_tar((info("x", type=kind), b""))[:512])
    header[124:136] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header) + data + bytes(-len(data) % 512) + plain("a.txt")


def chained(count: int, kind: bytes = b"x") -> bytes:
    record = b"20 mtime=1500000000.5\n"
    record = b"%d mtime=1500000000.5\n" % (len(record))
    return b"".join(extension(kind, len(record), record)[:1024] for _ in range(count)) + plain("a.txt")


def tar_frames(*contents: bytes, sizes: bool = True) -> bytes:
    """Zstd frames one behind the other."""
    pack = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=sizes)
    if sizes:
        return b"".join(pack.compress(content) for content in contents)
    made = []
    for content in contents:
        stream = pack.compressobj()
        made.append(stream.compress(content) + stream.flush())
    return b"".join(made)


def bomb(claimed: int, blocks: int) -> bytes:
    """A zstd frame of blocks of 128 KiB of zeros, four bytes each, that says it holds `claimed` bytes."""
    size = 128 << 10
    head = b"\x28\xb5\x2f\xfd\x80\x58" + struct.pack("<I", claimed)
    last = ((size << 3) | 3).to_bytes(3, "little") + b"\0"
    return head + (((size << 3) | 2).to_bytes(3, "little") + b"\0") * (blocks - 1) + last


def sample_tar(count: int, first: int = 0) -> bytes:
    """The spans of so many samples, without the end."""
    return b"".join(plain(f"{number:04d}.txt")[:1024] for number in range(first, first + count))


END = bytes(1024)

CASES: dict[str, tuple[str, Make]] = {
    # what is no regular file
    "symlink": (".tar", lambda: special(tarfile.SYMTYPE, linkname="/etc/passwd")),
    "symlink that climbs": (".tar", lambda: special(tarfile.SYMTYPE, linkname="../../secret")),
    "hard link": (".tar", lambda: special(tarfile.LNKTYPE, linkname="a.txt")),
    "character device": (".tar", lambda: special(tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "block device": (".tar", lambda: special(tarfile.BLKTYPE, devmajor=8)),
    "fifo": (".tar", lambda: special(tarfile.FIFOTYPE)),
    "gnu sparse": (".tar", lambda: special(tarfile.GNUTYPE_SPARSE)),
    "gnu long link": (".tar", lambda: made_tar(
        (info("a.txt", type=tarfile.SYMTYPE, linkname="b" * 200), b""), form=tarfile.GNU_FORMAT)),
    "multi-volume": (".tar", lambda: special(b"M")),
    "volume label": (".tar", lambda: special(b"V")),
    "unknown type": (".tar", lambda: special(b"Z")),
    "folder with bytes": (".tar", lambda: patched(156, b"5")),
    # names
    "climbs": (".tar", lambda: plain("a/../../b.txt")),
    "climbs at once": (".tar", lambda: plain("../b.txt")),
    "absolute": (".tar", lambda: plain("/etc/passwd.txt")),
    "backslash": (".tar", lambda: plain("..\\b.txt")),
    "name with NUL": (".tar", lambda: patched(0, b"a\0b.txt")),
    "pax name with NUL": (".tar", lambda: pax(path="a\0b.txt")),
    "pax name that climbs": (".tar", lambda: pax(path="../../b.txt")),
    "name with a line break": (".tar", lambda: plain("a\nb.txt")),
    "name with an escape": (".tar", lambda: plain("a\x1b[2Jb.txt")),
    "empty name": (".tar", lambda: patched(0, bytes(100))),
    "not utf-8": (".tar", lambda: patched(0, b"a\xff.txt")),
    "duplicate": (".tar", lambda: plain("a.txt", "a.txt")),
    "duplicate with ./": (".tar", lambda: plain("a.txt", "./a.txt")),
    "duplicate in another case": (".tar", lambda: plain("a.TXT", "a.txt")),
    "sample that comes back": (".tar", lambda: plain("a.txt", "b.txt", "a.json")),
    # numbers
    "negative size": (".tar", lambda: with_size(b"\xff" * 12)),
    "size -5": (".tar", lambda: with_size(b"-0000000005\0")),
    "size in base 256": (".tar", lambda: with_size(b"\x80" + b"\0" * 10 + b"\x03")),
    "size in base 256 of 1 TiB": (".tar", lambda: with_size(b"\x80\0\0\0\0\0\x01\0\0\0\0\0")),
    "size with letters": (".tar", lambda: with_size(b"0000000000x\0")),
    "size with digits that are not octal": (".tar", lambda: with_size(b"00000000899\0")),
    "size with a sign": (".tar", lambda: with_size(b"+0000000010\0")),
    "size of spaces": (".tar", lambda: with_size(b" " * 12)),
    "size behind NUL": (".tar", lambda: with_size(b"\0" * 11 + b"1")),
    "8 GiB in a small file": (".tar", lambda: with_size(b"77777777777\0")),
    "one byte more than there is": (".tar", lambda: patched(124, b"%011o\0" % 2000, plain("a.txt")[:1024] + END)),
    "wrong checksum": (".tar", lambda: patched(0, b"z", checksum=False)),
    "checksum of letters": (".tar", lambda: patched(148, b"zzzzzz\0 ", checksum=False)),
    # extension headers
    "pax size": (".tar", lambda: pax(size="1099511627776")),
    "pax size that agrees": (".tar", lambda: pax(size="1")),
    "pax sparse of 1 TiB": (".tar", lambda: pax(
        **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1099511627776"})),
    "pax old sparse": (".tar", lambda: pax(**{"GNU.sparse.size": "1099511627776", "GNU.sparse.numblocks": "0"})),
    "pax link": (".tar", lambda: pax(linkpath="/etc")),
    "pax character set": (".tar", lambda: pax(hdrcharset="BINARY")),
    "pax unknown": (".tar", lambda: pax(**{"EVIL.extract": "1"})),
    "3,000 chained pax": (".tar", lambda: chained(3000)),
    "3,000 chained global pax": (".tar", lambda: chained(3000, b"g")),
    "chained long names": (".tar", lambda: b"".join(extension(b"L", 6, b"a.txt\0")[:1024] for _ in range(100))),
    "global pax with a path": (".tar", lambda: extension(b"g", 16, b"16 path=evil.txt"[:15] + b"\n")),
    "pax record longer than its header": (".tar", lambda: extension(b"x", 10, b"99 path=a\n")),
    "pax record of length 0": (".tar", lambda: extension(b"x", 10, b"0 path=aa\n")),
    "pax record without an end": (".tar", lambda: extension(b"x", 10, b"10 path=aa")),
    "pax record without =": (".tar", lambda: extension(b"x", 10, b"10 pathaa\n")),
    "pax of digits": (".tar", lambda: extension(b"x", 4096, b"9" * 4096)),
    "pax header of 1 GiB": (".tar", lambda: extension(b"x", 1 << 30, b"")),
    "long name of 1 GiB": (".tar", lambda: extension(b"L", 1 << 30, b"")),
    "long name of 70,000": (".tar", lambda: made_tar((info("a" * 70_000 + ".txt"), b"x"), form=tarfile.PAX_FORMAT)),
    "ends behind an extension": (".tar", lambda: extension(b"x", 22, b"22 mtime=1500000000.5\n")[:1024] + END),
    "cut behind an extension": (".tar", lambda: extension(b"x", 22, b"22 mtime=1500000000.5\n")[:1024]),
    # ends
    "cut in a member": (".tar", lambda: plain("a.txt", size=2000)[:1500]),
    "cut in a header": (".tar", lambda: plain("a.txt")[:300]),
    "cut behind a member": (".tar", lambda: plain("a.txt")[:1024]),
    "one zero block": (".tar", lambda: plain("a.txt")[:1536]),
    "a zero block in the middle": (".tar", lambda: sample_tar(1) + bytes(512) + sample_tar(1, 1) + END),
    "data behind the end": (".tar", lambda: plain("a.txt") + b"more"),
    "a tar behind the end": (".tar", lambda: plain("a.txt") + plain("b.txt")),
    "empty file": (".tar", lambda: b""),
    "no tar": (".tar", lambda: b"\x89PNG" + bytes(2000)),
    "html": (".tar", lambda: b"<html><body>404 not found</body></html>" * 20),
    "zip": (".tar", lambda: b"PK\x03\x04" + bytes(600)),
    # compressed
    "gzip": (".tar", lambda: b"\x1f\x8b\x08" + bytes(600)),
    "gzip by its name": (".tar.gz", lambda: b"\x1f\x8b\x08" + bytes(600)),
    "zstd bomb": (".tar.zst", lambda: bomb(1 << 30, 8192)),
    "zstd bomb that lies": (".tar.zst", lambda: bomb(1 << 20, 8192)),
    "zstd bomb within a frame's size": (".tar.zst", lambda: bomb(100 << 20, 8192)),
    "one big frame without its size": (".tar.zst", lambda: tar_frames(sample_tar(4) + END, sizes=False)),
    "frames that cut samples": (".tar.zst", lambda: tar_frames(
        (sample_tar(4) + END)[:1300], (sample_tar(4) + END)[1300:])),
    "frames of different numbers": (".tar.zst", lambda: tar_frames(
        sample_tar(2), sample_tar(3, 2), sample_tar(2, 5), END)),
    "short frame in the middle": (".tar.zst", lambda: tar_frames(
        sample_tar(2), sample_tar(1, 2), sample_tar(2, 3), END)),
    "zstd cut": (".tar.zst", lambda: tar_frames(sample_tar(2), sample_tar(2, 2), END)[:-20]),
    "zstd cut between frames": (".tar.zst", lambda: tar_frames(sample_tar(2), sample_tar(2, 2))),
    "zstd with a flipped bit": (".tar.zst", lambda: _flipped(tar_frames(sample_tar(2), END))),
    "zstd and then something else": (".tar.zst", lambda: tar_frames(sample_tar(2), END) + b"more"),
    "skippable frame of 1 GiB": (".tar.zst", lambda: b"\x50\x2a\x4d\x18" + struct.pack("<I", 1 << 30)),
    "blocks without an end": (".tar.zst", lambda: bomb(1 << 20, 9)[:-4] + b"\0\0\0" * 3_000_000),
}  # fmt: skip
"""Each must be refused with ShardDamaged in bounded time and memory, and nothing may be written anywhere."""


def _flipped(data: bytes) -> bytes:
    found = bytearray(data)
    found[len(found) // 2] ^= 0x10
    return bytes(found)


ODD: dict[str, tuple[str, Make]] = {
    "float times": (".tar", lambda: made_tar((info("a.txt", mtime=1.5), b"x"), form=tarfile.PAX_FORMAT)),
    "gnu long name": (".tar", lambda: made_tar((info("d/" + "n" * 150 + ".txt"), b"x"), form=tarfile.GNU_FORMAT)),
    "pax long name": (".tar", lambda: made_tar((info("d/" + "é" * 90 + ".txt"), b"x"), form=tarfile.PAX_FORMAT)),
    "ustar prefix": (".tar", lambda: plain("d" * 90 + "/" + "n" * 90 + ".txt")),
    "folders": (".tar", lambda: made_tar(
        (info("d", type=tarfile.DIRTYPE), b""), (info("d/a.txt"), b"x"), (info("d/e", type=tarfile.DIRTYPE), b""),
        (info("d/a.json"), b"{}"))),
    "dots before names": (".tar", lambda: plain("./a.txt", "./b.txt")),
    "big numbers of users": (".tar", lambda: made_tar(
        (info("a.txt", uid=3_000_000_000, gid=4_000_000), b"x"), form=tarfile.PAX_FORMAT)),
    "records of bsdtar": (".tar", lambda: pax(
        **{"LIBARCHIVE.creationtime": "1500000000.1", "SCHILY.xattr.com.apple.provenance": "x", "atime": "1.5"})),
    "comment of git": (".tar", lambda: extension(b"g", 52, b"52 comment=0123456789012345678901234567890123456789\n")),
    "many zeros at the end": (".tar", lambda: plain("a.txt") + bytes(1 << 20)),
    "zeros that fill no block": (".tar", lambda: plain("a.txt") + bytes(100)),
    "no zeros but two blocks": (".tar", lambda: sample_tar(3) + END),
    "padding that is not zero": (".tar", lambda: patched(600, b"junk", plain("a.txt"))),
    "old v7 header": (".tar", lambda: patched(156, b"\0", patched(257, bytes(88)))),
    "frames of ours": (".tar.zst", lambda: tar_frames(sample_tar(2), sample_tar(2, 2), sample_tar(1, 4), END)),
    "frames and a skippable one": (".tar.zst", lambda: (
        b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"skip" + tar_frames(sample_tar(2), sample_tar(2, 2), END))),
    "empty member": (".tar", lambda: plain("a.txt", size=0)),
    "files of no sample": (".tar", lambda: plain("README", "a.txt", "__meta__/x.json", "a.json", "LICENSE")),
}  # fmt: skip
"""What other tools write in good faith: each must be read."""
