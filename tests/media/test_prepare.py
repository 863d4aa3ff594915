"""From a draft to members: names, order, the record, checking what is stored, versions."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from shardkit.errors import Refused, SpecError
from shardkit.media.prepare import check_member, check_options, prepare, toolchain
from shardkit.records.row import Prepared
from shardkit.records.sample import decode_sample, encode_sample, member_names
from shardkit.spec import AudioOptions, ImageOptions, Limits, MediaOptions, VideoOptions
from tests.media.making import IMAGES, SOUNDS, clip, draft

OPTIONS = MediaOptions(video=VideoOptions(keyframes=2))


def prepared(*media: tuple[str, str, bytes]) -> Prepared:
    return prepare(draft(*media), OPTIONS, Limits())


def everything() -> Prepared:
    return prepared(
        ("video", "screencast", clip()),
        ("audio", "speech", SOUNDS["wav"]()),
        ("image", "ui_mock", IMAGES["png"]()),
        ("image", "photo", IMAGES["jpeg"]()),
    )


def test_members_are_named_and_ordered_as_the_record_says() -> None:
    made = everything()
    names = [member.name for member in made.members]
    assert names == [
        "image0.png",
        "image1.jpg",
        "audio0.flac",
        "video0.kf00000.jpg",
        "video0.kf00001.jpg",
        "video0.audio.flac",
    ]
    assert tuple(names) == member_names(made.sample)


def test_the_record_survives_its_encoding() -> None:
    made = everything()
    assert decode_sample(encode_sample(made.sample)) == made.sample
    assert made.sample.modalities.video[0].audio == "video0.audio.flac"
    assert made.sample.modalities.audio[0].sample_rate == 16_000


def test_everything_but_the_media_comes_from_the_draft() -> None:
    rich = msgspec.structs.replace(
        draft(), licence="cc0-1.0", provenance={"position": "7"}, repetition_style="double", id="x:7"
    )
    sample = prepare(rich, OPTIONS, Limits()).sample
    assert (sample.id, sample.licence, sample.provenance) == ("x:7", "cc0-1.0", {"position": "7"})
    assert sample.repetition_style == "double"


def test_text_alone_has_no_members() -> None:
    assert prepared().members == ()


def test_every_stored_member_passes_the_deep_check() -> None:
    made = everything()
    for member in made.members:
        check_member(member.name, memoryview(member.data))
    check_member("json", encode_sample(made.sample))


@pytest.mark.parametrize("at", range(6))
def test_a_stored_member_cut_short_fails_the_deep_check(at: int) -> None:
    member = everything().members[at]
    for share in (0.3, 0.9):
        with pytest.raises(Refused):
            check_member(member.name, member.data[: int(len(member.data) * share)])


def test_a_member_under_a_wrong_extension_fails_the_deep_check() -> None:
    with pytest.raises(Refused, match="not jpeg"):
        check_member("image0.jpg", IMAGES["png"]())
    with pytest.raises(Refused, match="unknown-media"):
        check_member("image0.pyd", b"x")


def test_a_member_over_the_limit_is_refused() -> None:
    with pytest.raises(Refused, match="too-big"):
        prepare(draft(("image", "photo", IMAGES["bmp"]())), OPTIONS, Limits(member_bytes=500))


def test_a_type_of_another_modality_is_refused() -> None:
    with pytest.raises(Refused, match="schema"):
        prepared(("image", "speech", IMAGES["png"]()))


def test_a_medium_of_another_modality_is_refused() -> None:
    with pytest.raises(Refused, match="unknown-media"):
        prepared(("image", "photo", SOUNDS["wav"]()))


def test_the_toolchain_names_what_each_modality_uses() -> None:
    assert toolchain([]) == toolchain(["text"]) == {}
    assert "pillow" in toolchain(["image"])
    assert {"flac", "libsndfile", "soxr"} <= set(toolchain(["audio"]))
    assert {"libavcodec", "libswscale", "pillow", "flac"} <= set(toolchain(["video"]))
    assert "pyloudnorm" not in toolchain(["audio"])


def test_impossible_options_are_refused() -> None:
    check_options(MediaOptions())
    for options in (
        MediaOptions(image=ImageOptions(max_side=0)),
        MediaOptions(image=ImageOptions(quality=101)),
        MediaOptions(audio=AudioOptions(sample_rate=0)),
        MediaOptions(video=VideoOptions(keyframes=-1)),
    ):
        with pytest.raises(SpecError):
            check_options(options)


def test_heavy_libraries_load_only_when_used() -> None:
    heavy = ("PIL.Image", "av", "soundfile", "soxr", "scipy", "numpy")
    code = f"import sys, shardkit.media.prepare; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_process_makes_the_same_bytes() -> None:
    code = (
        "from tests.media.test_prepare import everything; from hashlib import sha256;"
        "print([sha256(member.data).hexdigest() for member in everything().members])"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 1
