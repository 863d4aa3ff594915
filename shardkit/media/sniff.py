"""Which media format some bytes are in, by their first bytes alone.

Here: the allow-list of formats for each modality.
Elsewhere: decoding (image, audio, video). Names and extensions are never trusted.
"""

from __future__ import annotations

from shardkit.errors import Refused
from shardkit.records.row import Modality

ALLOWED: dict[Modality, tuple[str, ...]] = {
    "image": ("png", "jpeg", "webp", "gif", "bmp"),
    "audio": ("flac", "wav", "ogg", "mp3", "mp4", "adts", "matroska"),
    "video": ("mp4", "matroska", "avi"),
}
"""Formats taken for each modality. `mp4` is all of ISO BMFF and QuickTime (m4a, mov), `matroska` also webm."""

HEAD_BYTES = 16
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


def sniff(modality: Modality, data: bytes) -> str:
    """The format of a medium, one of `ALLOWED[modality]`; raises Refused (`unknown-media`)."""
    found = media_format(data)
    if found not in ALLOWED[modality]:
        raise Refused("unknown-media", f"{modality} in no allowed format; wanted one of {', '.join(ALLOWED[modality])}")
    return found


def media_format(data: bytes) -> str:
    """The format that the first bytes show, or an empty text."""
    head = data[:HEAD_BYTES]
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12], "")
    if head[4:8] in MP4_BOXES:
        return "mp4"
    if len(head) > 3 and head[0] == 0xFF:
        return _mpeg_audio(head[1])
    return ""


def _mpeg_audio(second: int) -> str:
    """MPEG audio by the second byte of a frame header: layer 0 is AAC in ADTS, layer III is MP3."""
    if second & 0xF6 == 0xF0:
        return "adts"
    return "mp3" if second & 0xE6 == 0xE2 and second & 0x18 != 0x08 else ""


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"\x1aE\xdf\xa3", "matroska"),
)
