"""The Sample: one typed training record, exactly as it stands in KEY.json.

Here: the frozen structs, their canonical encoding and strict decoding.
Elsewhere: the key (key.py), marks of media in text (marks.py), raw rows and drafts (row.py).
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from shardkit.errors import Refused

Role = Literal["system", "user", "assistant", "tool"]
ImageType = Literal["screenshot", "diagram", "photo", "ui_mock", "chart", "grid", "page"]
AudioType = Literal["speech", "podcast", "meeting", "code_review", "background", "sound", "tones"]
VideoType = Literal["coding_session", "debugging", "deployment", "screencast", "footage"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every struct in KEY.json: frozen, keyword-only, unknown fields refused, empty parts left out."""


class Message(Record, frozen=True, kw_only=True):
    """One turn. Media stand in `content` as `<|image|>`, `<|audio|>`, `<|video|>`; see marks.py."""

    role: Role
    content: str


class Image(Record, frozen=True, kw_only=True):
    """One still image. `member` is relative to the sample (`image0.png`); width and height in pixels as shown."""

    member: str
    type: ImageType
    description: str = ""
    width: int
    height: int


class Audio(Record, frozen=True, kw_only=True):
    """One recording: FLAC, mono. `sample_rate` in Hz."""

    member: str
    type: AudioType
    duration_seconds: float
    sample_rate: int
    language: str = ""


class Keyframe(Record, frozen=True, kw_only=True):
    """One frame of a video, as JPEG, and its presentation time in seconds from the start."""

    member: str
    pts_seconds: float


class Video(Record, frozen=True, kw_only=True):
    """One video as its keyframes and sound track. `fps` is the mean rate of the original; sizes as shown (rotated)."""

    name: str
    type: VideoType
    duration_seconds: float
    fps: float
    width: int
    height: int
    keyframes: tuple[Keyframe, ...]
    scenes: tuple[tuple[float, float], ...] = ()
    audio: str = ""
    description: str = ""


class Modalities(Record, frozen=True, kw_only=True):
    """The media of a sample, in the order in which their marks stand in the messages."""

    image: tuple[Image, ...] = ()
    audio: tuple[Audio, ...] = ()
    video: tuple[Video, ...] = ()


class Preference(Record, frozen=True, kw_only=True):
    """Two answers to the last user turn, the first one preferred."""

    chosen: str
    rejected: str


class Sample(Record, frozen=True, kw_only=True):
    """One training record. Without messages it is unlabelled: its media have no true answer."""

    id: str
    messages: tuple[Message, ...] = ()
    domain: str
    category: str
    source: str
    modalities: Modalities = Modalities()
    preference: Preference | None = None
    repetition_style: str = ""
    licence: str = ""
    provenance: dict[str, str] = {}


BACKSLASH = ord("\\")
"""Looking for one byte costs a tenth of looking for several; most records have none."""

_decoder = msgspec.json.Decoder(Sample)
_encoder = msgspec.json.Encoder(order="deterministic")


def encode_sample(sample: Sample) -> bytes:
    """Canonical JSON of a sample: fields in declared order, keys of `provenance` sorted, no white space.

    Raises Refused (`not-finite`, `not-utf8`) where a number or text has no canonical form.
    """
    if sample.modalities.audio or sample.modalities.video:
        _refuse_non_finite(sample)
    try:
        encoded = _encoder.encode(sample)
    except UnicodeEncodeError:
        raise Refused("not-utf8", "lone surrogate in text") from None
    if BACKSLASH in encoded and b"\\u0000" in encoded and _has_nul(sample):
        raise Refused("not-utf8", "NUL in text")
    return encoded


def decode_sample(data: bytes | memoryview) -> Sample:
    """The sample in the bytes of a KEY.json; strict: unknown fields, wrong types and roles are errors.

    Raises Refused (`schema`) saying what was wrong.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("schema", str(error)) from None


def member_names(sample: Sample) -> tuple[str, ...]:
    """Names of all members that the sample refers to, in stored order: images, audio, then each video's parts."""
    media = sample.modalities
    names = [image.member for image in media.image] + [audio.member for audio in media.audio]
    for video in media.video:
        names += [frame.member for frame in video.keyframes]
        names += [video.audio] if video.audio else []
    return tuple(names)


def media_types(media: Modalities) -> list[str]:
    """The types of all media: images, sounds, videos."""
    return [*(one.type for one in media.image), *(one.type for one in media.audio), *(one.type for one in media.video)]


def modality_set(sample: Sample) -> tuple[str, ...]:
    """Which of `text`, `image`, `audio`, `video` the sample has, in that order; text means that it has messages."""
    media = sample.modalities
    present = {
        "text": bool(sample.messages or sample.preference),
        "image": bool(media.image),
        "audio": bool(media.audio),
        "video": bool(media.video),
    }
    return tuple(name for name, there in present.items() if there)


def _refuse_non_finite(sample: Sample) -> None:
    numbers = [audio.duration_seconds for audio in sample.modalities.audio]
    for video in sample.modalities.video:
        numbers += [video.duration_seconds, video.fps, *(frame.pts_seconds for frame in video.keyframes)]
        numbers += [edge for scene in video.scenes for edge in scene]
    if not all(math.isfinite(number) for number in numbers):
        raise Refused("not-finite", "a duration, rate or time is NaN or infinite")


def _has_nul(sample: Sample) -> bool:
    parts = [message.content for message in sample.messages]
    parts += [sample.preference.chosen, sample.preference.rejected] if sample.preference else []
    return any("\0" in part for part in parts)
