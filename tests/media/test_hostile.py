"""Hostile bytes: whatever is done to a medium, it is refused with a reason or is a whole medium."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import soundfile
from PIL import Image

from shardkit.errors import Refused
from shardkit.media.prepare import check_member, prepare
from shardkit.media.whole import is_whole
from shardkit.spec import Limits, MediaOptions, VideoOptions
from tests.media.making import IMAGES, SOUNDS, VIDEOS, draft

LIMITS = Limits(image_pixels=200_000, audio_seconds=30.0, video_seconds=30.0, video_frames=500)
OPTIONS = MediaOptions(video=VideoOptions(keyframes=3))
TYPES = {"image": "photo", "audio": "sound", "video": "footage"}
SUBJECTS = [
    *(("image", kind, make) for kind, make in IMAGES.items()),
    *(("audio", kind, make) for kind, make in SOUNDS.items()),
    *(("video", kind, make) for kind, make in VIDEOS.items()),
]
MUTATIONS = 60


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, set to extremes, cut out, doubled or swapped, mostly near the start, where headers lie."""
    bad = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        reach = len(bad) if chance.random() < 0.5 else min(len(bad), 300)
        at = chance.randrange(max(1, reach))
        match chance.randrange(5):
            case 0:
                bad[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                bad[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
            case 2:
                del bad[at : at + chance.choice((1, 4, 100))]
            case 3:
                bad[at:at] = bad[at : at + chance.choice((1, 8, 200))]
            case _:
                other = chance.randrange(max(1, len(bad)))
                bad[at : at + 8], bad[other : other + 8] = bad[other : other + 8], bad[at : at + 8]
    return bytes(bad)


@pytest.mark.parametrize(("modality", "kind", "make"), SUBJECTS, ids=[f"{entry[0]} {entry[1]}" for entry in SUBJECTS])
@pytest.mark.timeout(60)
def test_mutated_media_are_refused_or_whole(modality: str, kind: str, make) -> None:  # type: ignore[no-untyped-def]
    data, chance = make(), random.Random(f"{modality} {kind}")
    for _ in range(MUTATIONS):
        bad = mutated(data, chance)
        try:
            made = prepare(draft((modality, TYPES[modality], bad)), OPTIONS, LIMITS)
        except Refused:
            continue
        for member in made.members:
            check_member(member.name, member.data)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 12, 40, 400])
def test_noise_behind_every_magic_is_refused(length: int) -> None:
    chance = random.Random(length)
    for modality, _, make in SUBJECTS:
        noise = make()[:12] + chance.randbytes(length)
        with pytest.raises(Refused):
            prepare(draft((modality, TYPES[modality], noise)), OPTIONS, LIMITS)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "wav", "ogg", "mp4", "matroska", "avi", "mp3", "adts", "gif"])
def test_the_walk_over_noise_ends(kind: str) -> None:
    chance = random.Random(kind)
    for size in (0, 1, 5, 11, 13, 64, 5000):
        assert is_whole(kind, chance.randbytes(size)) in (True, False)
        assert is_whole(kind, bytes(size)) in (True, False)
        assert is_whole(kind, b"\xff" * size) in (True, False)


def test_a_short_flac_that_unpacks_to_hours_is_stopped() -> None:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 16_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(160_000, np.int16))
    bomb = buffer.getvalue()
    assert len(bomb) < 60_000
    with pytest.raises(Refused, match="too-long-media"):
        prepare(draft(("audio", "sound", bomb)), OPTIONS, LIMITS)


def test_an_image_whose_comment_unpacks_to_megabytes_is_refused_or_kept() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a" * (3 << 20), zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    with pytest.raises(Refused, match="image-damaged"):
        prepare(draft(("image", "photo", buffer.getvalue())), OPTIONS, LIMITS)
