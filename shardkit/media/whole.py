"""Whether a file is all there, by the lengths that it declares: decoders forgive a missing end, we do not.

Here: walks over chunks, boxes, pages and frames, without decoding.
Elsewhere: decoding, which finds damage in the middle (image, sound, frames).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

STREAMED_BYTES = 0x7FFFF000
"""A WAV data chunk declared this long or longer was written to a pipe: its true length is unknown."""


def is_whole(kind: str, data: bytes) -> bool:
    """Whether a file of a format of sniff.py holds all bytes that its structure declares.

    A format without such declarations is taken as whole. Never raises.
    """
    check = _CHECKS.get(kind)
    try:
        return check is None or check(data)
    except (struct.error, IndexError, ValueError):
        return False


def _png(data: bytes) -> bool:
    """Chunks follow one another, each with its CRC, up to IEND."""
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + size
        if end + 4 > len(data) or zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def _jpeg(data: bytes) -> bool:
    """Segments lead to the scans, and the end marker comes after them (a thumbnail has its own, inside a segment)."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) > 0
        at += 1 if marker == 0xFF else 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return False


def _gif(data: bytes) -> bool:
    return b"\x3b" in data[-64:]


def _riff(data: bytes) -> bool:
    return 8 + int(struct.unpack_from("<I", data, 4)[0]) <= len(data)


def _wav(data: bytes) -> bool:
    """The data chunk lies wholly in the file, or was streamed and declares no true length."""
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"data":
            return bool(size >= STREAMED_BYTES or at + 8 + size <= len(data))
        at += 8 + size + size % 2
    return False


def _ogg(data: bytes) -> bool:
    """Pages follow one another without a gap, and every stream's last page says that it is the last."""
    at = 0
    open_streams: dict[int, tuple[int, bool]] = {}
    while at < len(data):
        magic, _, flags, _, serial, number, _, segments = struct.unpack_from("<4sBBqIIIB", data, at)
        last, ended = open_streams.get(serial, (number - 1, False))
        if magic != b"OggS" or number != last + 1 or ended:
            return False
        open_streams[serial] = (number, bool(flags & 4))
        lacing = data[at + 27 : at + 27 + segments]
        at += 27 + segments + sum(lacing)
        if len(lacing) < segments:
            return False
    return at == len(data) and all(ended for _, ended in open_streams.values())


def _mp4(data: bytes) -> bool:
    """Top-level boxes follow one another to the end; the index (moov) and some media are there."""
    at, kinds = 0, set()
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            return False
        kinds.add(kind)
        at += size
    return {b"moov", b"mdat"} <= kinds


def _matroska(data: bytes) -> bool:
    """The segment, where it declares a length, lies wholly in the file."""
    size, start = _ebml_number(data, 4)
    at = start + size
    if data[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    length, body = _ebml_number(data, at + 4)
    return length < 0 or body + length <= len(data)


def _ebml_number(data: bytes, at: int) -> tuple[int, int]:
    """An EBML size and where it ends; -1 where it is declared unknown (all bits set)."""
    width = 9 - data[at].bit_length()
    raw = data[at : at + width]
    if width > 8 or len(raw) < width:
        raise IndexError("no EBML size")
    value = int.from_bytes(raw, "big") & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), at + width


def _mp3(data: bytes) -> bool:
    """Frames follow one another; the last is complete; a Xing header's count of bytes is there."""
    at = _after_id3(data)
    first, frames = at, 0
    while at + 4 <= len(data) and (size := _mp3_frame_bytes(data, at)):
        at, frames = at + size, frames + 1
    if not frames or at > len(data):
        return False
    declared = _xing_bytes(data, first)
    return declared is None or first + declared <= len(data)


def _after_id3(data: bytes) -> int:
    if data[:3] != b"ID3":
        return 0
    a, b, c, d = data[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if data[5] & 0x10 else 0)


def _mp3_frame_bytes(data: bytes, at: int) -> int:
    """Length of the layer III frame at an offset; 0 where there is none."""
    head = struct.unpack_from(">I", data, at)[0]
    version, rate, bitrate = head >> 19 & 3, head >> 10 & 3, head >> 12 & 15
    if head >> 21 != 0x7FF or head >> 17 & 3 != 1 or version == 1 or rate == 3 or bitrate in (0, 15):
        return 0
    hertz = (44100, 48000, 32000)[rate] // (1, 2, 4)[(3, 2, 0).index(version)]
    kilobits = (_MP3_RATES_1 if version == 3 else _MP3_RATES_2)[bitrate]
    return (144 if version == 3 else 72) * kilobits * 1000 // hertz + int(head >> 9 & 1)


def _xing_bytes(data: bytes, at: int) -> int | None:
    found = re.search(rb"Xing|Info", data[at : at + 64])
    if not found:
        return None
    here = at + found.start() + 4
    flags = struct.unpack_from(">I", data, here)[0]
    return int(struct.unpack_from(">I", data, here + 4 + 4 * (flags & 1))[0]) if flags & 2 else None


def _adts(data: bytes) -> bool:
    """Frames follow one another to the end."""
    at = 0
    while at + 7 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if size < 7:
            return False
        at += size
    return at > 0 and (at == len(data) or data[at : at + 3] == b"TAG")


_MP3_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "png": _png, "jpeg": _jpeg, "gif": _gif, "webp": _riff, "wav": _wav, "ogg": _ogg, "mp4": _mp4,
    "matroska": _matroska, "avi": _riff, "mp3": _mp3, "adts": _adts,
}  # fmt: skip
