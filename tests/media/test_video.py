"""Videos: which frames are kept, when they were shown, which way is up, and the sound track."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from shardkit.errors import Refused
from shardkit.media.frames import Scan, choose_times
from shardkit.media.video import StoredVideo, prepare_video
from shardkit.spec import AudioOptions, Limits, MediaOptions, VideoOptions
from tests.media.making import VIDEOS, clip, picture

NASA = Path(__file__).parents[3] / "shared" / "data" / "video" / "nasa_13013.mp4"


def stored(data: bytes, limits: Limits | None = None, **options: object) -> StoredVideo:
    return prepare_video(data, MediaOptions(video=VideoOptions(**options)), limits or Limits())  # type: ignore[arg-type]


def reason(data: bytes, limits: Limits | None = None, **options: object) -> str:
    with pytest.raises(Refused) as caught:
        stored(data, limits, **options)
    return caught.value.reason


def times(video: StoredVideo) -> list[float]:
    return [seconds for seconds, _ in video.frames]


@pytest.mark.parametrize("kind", VIDEOS)
def test_every_container_gives_frames_and_sound(kind: str) -> None:
    video = stored(VIDEOS[kind](), keyframes=4)
    assert len(video.frames) == 4
    assert times(video) == sorted(set(times(video)))
    assert times(video)[0] == 0.0
    assert (video.width, video.height) == (64, 48)
    assert video.fps == pytest.approx(12, abs=0.5)  # FFmpeg's AVI leaves one empty frame
    assert video.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert video.sound
    assert video.sound.duration_seconds == pytest.approx(2.0, abs=0.1)
    for _, image in video.frames:
        shown = np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB"), dtype=int)
        assert np.abs(shown - np.asarray(picture(), dtype=int)).mean() < 12


@pytest.mark.parametrize("kind", VIDEOS)
def test_the_same_bytes_come_out_twice(kind: str) -> None:
    data = VIDEOS[kind]()
    assert stored(data) == stored(data)


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_video_cut_anywhere_is_refused(kind: str) -> None:
    data = VIDEOS[kind]()
    for cut in [*range(0, len(data), max(1, len(data) // 40)), len(data) - 9, len(data) - 1]:
        assert reason(data[:cut]) in ("video-damaged", "unknown-media"), cut


def test_keyframes_are_kept_at_their_own_times() -> None:
    assert times(stored(clip(frames=32, gop=4, fps=8))) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_times_are_counted_from_the_first_frame() -> None:
    video = stored(clip("matroska", sound=None, start=36))
    assert times(video)[0] == 0.0
    assert video.duration_seconds == pytest.approx(2.0, abs=0.02)


def test_many_keyframes_are_thinned_evenly_with_both_ends() -> None:
    found = times(stored(clip(frames=48, gop=2, fps=12), keyframes=4))
    assert found == pytest.approx([0, 8 / 6, 15 / 6, 23 / 6], abs=0.2)
    assert found[-1] == pytest.approx(23 / 6, abs=1e-3)


def test_fewer_keyframes_than_asked_are_filled_up_with_frames_between() -> None:
    video = stored(clip(frames=24, gop=12, fps=12))
    assert len(video.frames) == 8
    assert {0.0, 1.0} <= set(times(video))
    gaps = np.diff([*times(video), 2.0])
    assert gaps.max() / gaps.min() < 2.1


def test_a_video_of_three_frames_gives_three() -> None:
    assert len(stored(clip(frames=3, gop=12, sound=None)).frames) == 3


def test_zero_means_all_keyframes() -> None:
    assert len(stored(clip(frames=40, gop=4), keyframes=0).frames) == 10


def test_one_frame_is_the_first() -> None:
    assert times(stored(clip(), keyframes=1)) == [0.0]


@pytest.mark.parametrize("wanted", range(1, 12))
@pytest.mark.parametrize("keys", [(0,), (0, 50), (0, 10, 20, 30, 40, 50, 60, 70, 80, 90), (0, 1, 2, 99)])
def test_as_many_frames_are_chosen_as_are_wanted(keys: tuple[int, ...], wanted: int) -> None:
    scan = Scan(times=tuple(range(100)), keys=keys, end=100, tick=Fraction(1, 10))
    chosen = choose_times(scan, wanted)
    assert len(chosen) == wanted
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) <= set(keys) or set(keys) <= set(chosen)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_respected(rotation: int) -> None:
    """The red half lies left as coded; a display matrix of +90 turns it anticlockwise, to the bottom."""
    video = stored(clip(rotation=rotation), keyframes=2)
    assert (video.width, video.height) == ((48, 64) if rotation % 180 else (64, 48))
    shown = np.asarray(Image.open(io.BytesIO(video.frames[0][1].data)).convert("RGB"), dtype=int)[..., 0]
    height, width = shown.shape
    halves = {
        0: shown[:, : width // 2 - 4],
        90: shown[height // 2 + 4 :],
        180: shown[:, width // 2 + 4 :],
        270: shown[: height // 2 - 4],
    }
    assert halves[rotation].mean() > 200
    assert shown.mean() < 160


def test_wide_pixels_are_made_square() -> None:
    video = stored(clip(aspect=Fraction(2, 1)), keyframes=1)
    assert (video.width, video.height) == (128, 48)


def test_frames_are_made_smaller_and_the_record_keeps_the_size_as_shown() -> None:
    video = stored(clip(), keyframes=1, max_side=32)
    assert (video.frames[0][1].width, video.frames[0][1].height) == (32, 24)
    assert (video.width, video.height) == (64, 48)


def test_sound_is_optional() -> None:
    assert stored(clip(sound=None)).sound is None
    assert stored(clip(), audio=False).sound is None


def test_sound_has_the_rate_that_was_asked_for() -> None:
    video = prepare_video(clip(), MediaOptions(audio=AudioOptions(sample_rate=8_000)), Limits())
    assert video.sound
    assert soundfile.info(io.BytesIO(video.sound.data)).samplerate == 8_000


def test_limits_are_kept() -> None:
    data = clip()
    assert reason(data, Limits(video_seconds=1.9)) == "too-long-media"
    assert reason(clip(sound=None), Limits(video_seconds=1.9)) == "too-long-media"
    assert reason(data, Limits(video_frames=23)) == "too-many-frames"
    assert reason(data, Limits(image_pixels=64 * 48 - 1)) == "too-many-pixels"
    assert len(stored(data, Limits(video_seconds=2.1, video_frames=24, image_pixels=64 * 48)).frames) == 8


def test_sound_alone_is_no_video() -> None:
    from tests.media.making import av_sound

    assert reason(av_sound("mp4", "aac")) == "video-damaged"


@pytest.mark.parametrize(
    "data", [b"", b"FLV\x01" + bytes(40), b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", b"ffconcat version 1.0"]
)
def test_other_formats_are_refused(data: bytes) -> None:
    assert reason(data) == "unknown-media"


def test_a_video_that_names_another_file_opens_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A track whose data reference says "not in this file": nothing beside it is opened."""
    data = clip("mov", sound=None)
    here = b"\0\0\0\x0curl \0\0\0\x01"
    assert data.count(here) == 1
    (tmp_path / "other.mov").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    opened: list[object] = []
    sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
    video = stored(data.replace(here, b"\0\0\0\x0calis\0\0\0\0"))
    assert len(video.frames) == 8
    assert not [name for name in opened if "other" in str(name)]


@pytest.mark.skipif(not NASA.is_file(), reason="the folder of real data is not there")
def test_nasa_gives_eight_frames_at_rising_times() -> None:
    video = stored(NASA.read_bytes())
    assert len(video.frames) == 8
    assert times(video) == sorted(set(times(video)))
    assert {0.0, 8.08} <= set(times(video))
    assert (video.width, video.height, video.fps, video.duration_seconds) == (320, 180, 25.0, 13.0)
    assert video.sound
    assert video.sound.duration_seconds == pytest.approx(13.0, abs=0.2)


@pytest.mark.skipif(not NASA.is_file(), reason="the folder of real data is not there")
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999, 0.999999])
def test_nasa_cut_short_is_refused(share: float) -> None:
    data = NASA.read_bytes()
    assert reason(data[: int(len(data) * share)]) == "video-damaged"
