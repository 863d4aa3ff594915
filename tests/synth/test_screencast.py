"""Screencasts: what is typed can be read back from the video."""

from __future__ import annotations

import ast
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from shardkit.media.video import StoredVideo, prepare_video
from shardkit.records.row import Row
from shardkit.spec import Limits, MediaOptions
from shardkit.synth.screencast import THEMES
from shardkit.synth.table import GENERATORS

SCREENCAST = GENERATORS["screencast"]
pytestmark = pytest.mark.skipif(bool(SCREENCAST.missing_tool()), reason="libx264 or FreeType is missing")
ROWS = [SCREENCAST.make(7, index, {}) for index in range(12)] if not SCREENCAST.missing_tool() else []


def video(row: Row) -> StoredVideo:
    return prepare_video(row.blobs["video"], MediaOptions(), Limits())


def test_a_screencast_has_eight_keyframes_half_a_second_apart() -> None:
    made = video(ROWS[0])
    assert [seconds for seconds, _ in made.frames] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert (made.width, made.height, made.fps, made.duration_seconds) == (480, 272, 8.0, 4.0)


def test_the_number_of_keyframes_is_a_parameter() -> None:
    row = SCREENCAST.make(7, 0, {"keyframes": 10})
    assert video(row).duration_seconds == 5.0


def test_the_background_is_of_the_named_colour() -> None:
    for row in ROWS:
        frame = Image.open(io.BytesIO(video(row).frames[-1][1].data)).convert("RGB")
        wanted = tuple(bytes.fromhex(THEMES[row.fields["theme"]][0][1:]))
        assert np.abs(np.subtract(frame.getpixel((470, 260)), wanted)).max() < 8


def test_more_ink_stands_on_later_frames() -> None:
    for row in ROWS[:4]:
        frames = [np.asarray(Image.open(io.BytesIO(image.data)).convert("L"), float) for _, image in video(row).frames]
        ink = [np.abs(frame[30:] - np.median(frame[30:])).sum() for frame in frames]
        assert ink[-1] > 2 * ink[0]
        assert ink[4] > ink[1]


def test_keys_are_heard_while_typing_and_not_after() -> None:
    made = video(ROWS[0])
    assert made.sound
    samples, rate = soundfile.read(io.BytesIO(made.sound.data))
    assert made.sound.duration_seconds == 4.0
    assert np.abs(samples[: rate * 3]).max() > 0.05
    assert np.abs(samples[int(rate * 3.8) :]).max() == 0


def test_questions_are_a_third_each() -> None:
    asked = {row.fields["question"] for row in ROWS}
    assert len(asked) == 3
    for kind, field in (("colour", "theme"), ("language", "language"), ("text", "text")):
        row = SCREENCAST.make(7, 1, {"questions": kind})
        assert row.fields["answer"] == row.fields[field]


def test_python_code_parses() -> None:
    found = [row.fields["text"] for row in ROWS if row.fields["language"] == "python"]
    assert found
    for code in found:
        ast.parse(code)


def test_the_file_names_no_time_and_no_library() -> None:
    assert b"Lavf" not in ROWS[0].blobs["video"]
