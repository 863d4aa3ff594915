"""USTAR headers from a template, and the strict reader of our own tars.

Here: the canonical headers of many members at once, padding, the end of a tar, walking a sample's span.
Elsewhere: tars of others (foreign.py), whole shards (shard.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

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
_SPACES = 8 * b" "
_SIZE, _SUM, _REST_AT = 124, 148, 156
_NUMBERS = np.frombuffer(b"00000000000\x00" + _MTIME + b"000000\x00 ", dtype=np.uint8)
"""Size, time and sum, which stand one behind the other."""
_DIGITS = np.array([int.from_bytes(b"%04o" % number, "big") for number in range(1 << 12)], dtype=">u4")
"""The four octal digits of each number below 4,096, as four bytes."""
_DIGIT_SUMS = (_DIGITS.view(np.uint8).reshape(-1, 4) - 0x30).sum(axis=1, dtype=np.int64)

PADDING = [bytes(size) for size in range(BLOCK)]
"""Zeros by their number."""

KNOWN_NAMES = 4096
"""Templates that are kept; there are few names of members in a dataset."""


def check_member_name(name: str) -> None:
    """Refuse a member's name that is not plain ASCII with an extension, as every reader takes it."""
    if name != JSON and (len(name) > MAX_NAME or not MEMBER_NAME.fullmatch(name) or name.lower().endswith(".json")):
        raise Refused("schema", f"member name {name[:80]!r}: letters, digits, _ and - with an extension, at most 64")


def check_member(name: str, size: int) -> None:
    """Refuse a member that has no header: see `check_member_name`, and `too-big` from 8 GiB on."""
    if name not in KNOWN:
        _template(name)
    if size > MAX_MEMBER_BYTES:
        raise Refused("too-big", "a member of 8 GiB or more does not fit a USTAR header")


def header(key: bytes, name: str, size: int) -> bytes:
    """The 512 bytes before a member: `key` is the 32 hex characters, `size` in bytes. Raises Refused (`too-big`)."""
    check_member(name, size)
    template = _template(name)
    octal = b"%011o\x00" % size
    total = template.total + sum(key) + sum(octal) - 11 * 0x30
    return b"".join((key, template.middle, octal, _MTIME, b"%06o\x00 " % total, _REST))


def blank_headers(names: Sequence[str]) -> Iterator[bytes]:
    """The headers of members with checked names, without key, size and sum: see `fill_headers`."""
    blanks = {name: _template(name).blank for name in dict.fromkeys(names)}
    return map(blanks.__getitem__, names)


def fill_headers(rows: np.ndarray, at: np.ndarray, keys: bytes, names: Sequence[str], sizes: np.ndarray) -> None:
    """Write what blank headers lack, of many members at once: `rows` is uint8 [blocks, 512], `at` their blocks.

    `keys` are the 32 hex characters of each member's sample, one behind the other; `sizes` int64. 0.2 microseconds a
    header, a fifth of formatting each for itself.
    """
    ascii_keys = np.frombuffer(keys, dtype=np.uint8).reshape(-1, KEY_CHARACTERS)
    sums = _totals(names) + ascii_keys.sum(axis=1, dtype=np.int64)
    numbers = np.empty((len(sizes), _REST_AT - _SIZE), dtype=np.uint8)
    numbers[:] = _NUMBERS
    for place, shift in ((7, 0), (3, 12), (0, 24)):  # eleven digits: four, four, and three of the highest four
        part = sizes >> shift & 0xFFF
        digits = _digits(part)[:, shift == 24 :]
        numbers[:, place : place + digits.shape[1]] = digits
        sums += _DIGIT_SUMS[part]
    numbers[:, _SUM - _SIZE + 2 : _SUM - _SIZE + 6] = _digits(sums & 0xFFF)
    numbers[:, _SUM - _SIZE : _SUM - _SIZE + 2] = _digits(sums >> 12)[:, 2:]
    rows[at, :KEY_CHARACTERS] = ascii_keys
    rows[at, _SIZE:_REST_AT] = numbers


def _digits(numbers: np.ndarray) -> np.ndarray:
    digits: np.ndarray = _DIGITS[numbers].view(np.uint8).reshape(-1, 4)
    return digits


def _totals(names: Sequence[str]) -> np.ndarray | int:
    """Sums of the bytes of blank headers."""
    totals = {name: _template(name).total for name in dict.fromkeys(names)}
    if len(totals) == 1:
        return totals[names[0]]
    return np.fromiter(map(totals.__getitem__, names), dtype=np.int64, count=len(names))


class _Template(NamedTuple):
    """What the headers of all members of one name share.

    What stands between key and size; a whole header without key, size and sum; the sum of its bytes.
    """

    middle: bytes
    blank: bytes
    total: int


KNOWN: dict[str, _Template] = {}
"""Templates by member name: a name in here is a good one."""


def _template(name: str) -> _Template:
    found = KNOWN.get(name)
    if found is None:
        check_member_name(name)
        suffix = f".{name}".encode("ascii")
        middle = suffix + bytes(100 - KEY_CHARACTERS - len(suffix)) + _MODE_UID_GID
        before = bytes(KEY_CHARACTERS) + middle + b"00000000000\x00" + _MTIME
        if len(KNOWN) >= KNOWN_NAMES:
            KNOWN.clear()
        blank = before + b"000000\x00 " + _REST
        found = KNOWN[name] = _Template(middle, blank, sum(before) + sum(_SPACES) + sum(_REST))
    return found


def padding(size: int) -> bytes:
    """Zeros from the end of a member of `size` bytes to the next block."""
    return PADDING[-size % BLOCK]


Sizes = TypeVar("Sizes", int, NDArray[np.int64])


def stored_bytes(size: Sizes) -> Sizes:
    """Bytes that a member of `size` bytes takes in a tar: header, data, padding; for many members as an array."""
    return size + (BLOCK + -size % BLOCK)


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
