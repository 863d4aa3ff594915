"""USTAR headers from a template, and the strict reader of our own tars.

Here: one canonical header per (name, size), padding, the end of a tar, walking a sample's span.
Elsewhere: tars of others (foreign.py), whole shards (shard.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from shardkit.errors import Refused, ShardDamaged

BLOCK = 512
END = bytes(2 * BLOCK)
"""A plain tar ends with exactly two zero blocks."""

MAX_MEMBER_BYTES = (1 << 33) - 1
"""The largest size that eleven octal digits hold."""

KEY_CHARACTERS = 32
MEMBER_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+", re.ASCII)
MAX_NAME = 64
JSON = "json"
"""Name of the member that holds the record: KEY.json, always first."""

_MODE_UID_GID = b"0000644\x000000000\x000000000\x00"
_MTIME = b"00000000000\x00"
_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 8 + 8 + 155 + 12)
_SPACES = 8 * 0x20
_BASE = sum(_MODE_UID_GID) + sum(_MTIME) + sum(_REST) + _SPACES
PADDING = [bytes(size) for size in range(BLOCK)]
"""Zeros by their number."""

_KEPT_SIZES = 4096


class Suffix:
    """What is constant in the headers of all members of one name: `.image0.png` and the fields up to the size."""

    __slots__ = ("checksum", "middle", "sizes")

    def __init__(self, name: str) -> None:
        check_member_name(name)
        suffix = f".{name}".encode("ascii")
        self.middle = suffix + bytes(100 - KEY_CHARACTERS - len(suffix)) + _MODE_UID_GID
        self.checksum = _BASE + sum(suffix)
        self.sizes: dict[int, tuple[bytes, int]] = {}


def check_member_name(name: str) -> None:
    """Refuse a member's name that is not plain ASCII with an extension, as every reader takes it."""
    if name != JSON and (len(name) > MAX_NAME or not MEMBER_NAME.fullmatch(name) or name.lower().endswith(".json")):
        raise Refused("schema", f"member name {name[:80]!r}: letters, digits, _ and - with an extension, at most 64")


_suffixes: dict[str, Suffix] = {}


def suffix(name: str) -> Suffix:
    """The template of one member name, kept; there are few names in a dataset."""
    found = _suffixes.get(name)
    if found is None:
        if len(_suffixes) > 4096:
            _suffixes.clear()
        found = _suffixes[name] = Suffix(name)
    return found


def header(key: bytes, name: str, size: int) -> bytes:
    """The 512 bytes before a member: `key` is the 32 hex characters, `size` in bytes. Raises Refused (`too-big`)."""
    return header_from(key, sum(key), suffix(name), size)


def header_from(key: bytes, key_sum: int, name: Suffix, size: int) -> bytes:
    """The same, for the hot path: the sum of the key's bytes and the name's template are at hand."""
    known = name.sizes.get(size)
    if known is None:
        known = _with_size(name, size)
    return b"".join((key, known[0], b"%06o\x00 " % (known[1] + key_sum), _REST))


def _with_size(name: Suffix, size: int) -> tuple[bytes, int]:
    if size > MAX_MEMBER_BYTES:
        raise Refused("too-big", "a member of 8 GiB or more does not fit a USTAR header")
    octal = b"%011o\x00" % size
    known = (name.middle + octal + _MTIME, name.checksum + sum(octal))
    if len(name.sizes) < _KEPT_SIZES:
        name.sizes[size] = known
    return known


def padding(size: int) -> bytes:
    """Zeros from the end of a member of `size` bytes to the next block."""
    return PADDING[-size % BLOCK]


def stored_bytes(size: int) -> int:
    """Bytes that a member of `size` bytes takes in a tar: header, data, padding."""
    return BLOCK + size + -size % BLOCK


class TarMember(NamedTuple):
    """One member of a span: its name within the sample, where its data lie in the span, how many bytes."""

    name: str
    offset: int
    size: int


def walk_span(span: memoryview, where: str) -> tuple[bytes, list[TarMember]]:
    """The key and the members of one sample's span, read strictly: every header byte and padding byte must be ours.

    Raises ShardDamaged naming `where` and the offset in the span.
    """
    members: list[TarMember] = []
    key = bytes(span[:KEY_CHARACTERS])
    at = 0
    while at < len(span):
        member = _walk_member(span, at, key, f"{where}, offset {at}")
        if any(member.name == other.name for other in members):
            raise ShardDamaged(f"{where}: member {member.name} occurs twice")
        members.append(member)
        at = member.offset + member.size + -member.size % BLOCK
    if not members or members[0].name != JSON:
        raise ShardDamaged(f"{where}: the first member of a sample must be KEY.json")
    return key, members


def walk_tar(data: memoryview, where: str) -> Iterator[tuple[int, str, int, int]]:
    """(offset of the header, full name, offset of the data, size) of every member of a whole tar of ours, strictly.

    Raises ShardDamaged also where the end is not exactly two zero blocks.
    """
    at = 0
    while bytes(data[at : at + 1]) not in (b"\0", b""):
        member = _walk_member(data, at, bytes(data[at : at + KEY_CHARACTERS]), f"{where}, offset {at}")
        name = bytes(data[at : at + KEY_CHARACTERS]).decode("ascii")
        yield at, f"{name}.{member.name}", member.offset, member.size
        at = member.offset + member.size + -member.size % BLOCK
    if bytes(data[at:]) != END:
        raise ShardDamaged(
            f"{where}: the tar must end with exactly two zero blocks, found {len(data) - at} other bytes"
        )


def _walk_member(data: memoryview, at: int, key: bytes, where: str) -> TarMember:
    found = bytes(data[at : at + BLOCK])
    name, size = _parse(found, where)
    if re.fullmatch(rb"[0-9a-f]{32}", key) is None:
        raise ShardDamaged(f"{where}: the name does not begin with a key of 32 hex digits")
    if header(key, name, size) != found:
        raise ShardDamaged(f"{where}: the header is not the one that belongs to {name} of {size} bytes")
    end = at + BLOCK + size
    if end + -size % BLOCK > len(data):
        raise ShardDamaged(f"{where}: member {name} of {size} bytes is cut short")
    if bytes(data[end : end + -size % BLOCK]) != padding(size):
        raise ShardDamaged(f"{where}: the padding behind {name} is not zero")
    return TarMember(name, at + BLOCK, size)


def _parse(found: bytes, where: str) -> tuple[str, int]:
    name = found[KEY_CHARACTERS:100].rstrip(b"\0")
    octal = found[124:135]
    if len(found) != BLOCK or name[:1] != b"." or re.fullmatch(rb"[0-7]{11}", octal) is None:
        raise ShardDamaged(f"{where}: there is no header of ours")
    try:
        text = name[1:].decode("ascii")
        check_member_name(text)
    except (UnicodeDecodeError, Refused):
        raise ShardDamaged(f"{where}: the member's name is not one of ours") from None
    return text, int(octal, 8)
