"""A draft's raw media become members with fixed names: the last step before a shard.

Here: naming and order of members, the finished record, checking a stored member.
Elsewhere: each medium's stored form (image, audio, video), versions (toolchain).
"""

from __future__ import annotations

from typing import cast, get_args

from shardkit.errors import Refused, SpecError
from shardkit.media.audio import check_loudness, prepare_audio
from shardkit.media.image import EXTENSIONS, decode_image, prepare_image
from shardkit.media.sniff import media_format
from shardkit.media.sound import decode_sound
from shardkit.media.toolchain import toolchain
from shardkit.media.video import prepare_video
from shardkit.records.row import Draft, Kept, Member, Modality, Prepared, RawMedium
from shardkit.records.sample import (
    Audio,
    AudioType,
    Image,
    ImageType,
    Keyframe,
    Modalities,
    Sample,
    Video,
    VideoType,
    decode_sample,
    member_names,
)
from shardkit.spec import Limits, MediaOptions

__all__ = ["check_member", "check_options", "prepare", "toolchain"]

TYPES: dict[Modality, tuple[str, ...]] = {
    "image": get_args(ImageType),
    "audio": get_args(AudioType),
    "video": get_args(VideoType),
}
_NO_MEDIA = Modalities()
CHECK_PIXELS = 1 << 28
"""Pixels of a stored image beyond which `check_member` takes it for a bomb; a build's own limit is usually lower."""


def prepare(draft: Draft, options: MediaOptions, limits: Limits) -> Prepared:
    """The finished sample and its members, in stored order: images, sounds, then each video's frames and sound.

    Members are named `image0.png`, `audio0.flac`, `video0.kf00000.jpg`, `video0.audio.flac`. Pure: the same draft,
    options and toolchain give the same bytes. Raises Refused with the reason of the first medium that cannot be stored.
    """
    if draft.kept is not None:
        return _keep(draft, draft.kept, limits)
    if not draft.media:
        return Prepared(sample=_record(draft, _NO_MEDIA))
    images = [_image(medium, at, options, limits) for at, medium in _each(draft, "image")]
    sounds = [_audio(medium, at, options, limits) for at, medium in _each(draft, "audio")]
    videos = [_video(medium, at, options, limits) for at, medium in _each(draft, "video")]
    members = tuple(member for _, own in (*images, *sounds, *videos) for member in own)
    for member in members:
        if len(member.data) > limits.member_bytes:
            raise Refused("too-big", f"{member.name} has {len(member.data)} bytes, limit {limits.member_bytes}")
    modalities = Modalities(
        image=tuple(record for record, _ in images),
        audio=tuple(record for record, _ in sounds),
        video=tuple(record for record, _ in videos),
    )
    return Prepared(sample=_record(draft, modalities), members=members)


def _keep(draft: Draft, kept: Kept, limits: Limits) -> Prepared:
    """Media that were stored before, unaltered: each must be there, decode wholly and be within the limits."""
    sample = _record(draft, kept.modalities)
    if member_names(sample) != tuple(member.name for member in kept.members):
        raise Refused("schema", "the members are not those that the record names")
    for member in kept.members:
        if len(member.data) > limits.member_bytes:
            raise Refused("too-big", f"{member.name} has {len(member.data)} bytes, limit {limits.member_bytes}")
        check_member(member.name, member.data)
    return Prepared(sample=sample, members=kept.members)


def check_options(options: MediaOptions) -> None:
    """Raise SpecError where the options need something that is not installed or make no sense."""
    check_loudness(options.audio)
    bounds = {
        "image.max_side": options.image.max_side,
        "audio.sample_rate": options.audio.sample_rate,
        "video.max_side": options.video.max_side,
    }
    for name, value in bounds.items():
        if value < 1:
            raise SpecError(f"media.{name} is {value}; at least 1")
    if options.video.keyframes < 0:
        raise SpecError(f"media.video.keyframes is {options.video.keyframes}; 0 for all, or how many")
    for name, quality in (("image", options.image.quality), ("video", options.video.quality)):
        if not 1 <= quality <= 100:
            raise SpecError(f"media.{name}.quality is {quality}; between 1 and 100")


def check_member(name: str, data: bytes | memoryview) -> None:
    """Decode a stored member wholly; raises Refused with what is wrong. `json` is checked as a record."""
    data = bytes(data)
    extension = name.rpartition(".")[2]
    if extension == "json":
        decode_sample(data)
    elif extension == "flac":
        for _ in decode_sound(data):
            pass
    elif (kind := _IMAGE_KINDS.get(extension)) is None:
        raise Refused("unknown-media", f"{extension!r} is the extension of no stored medium")
    elif media_format(data) != kind:
        raise Refused("image-damaged", f"the bytes are not {kind}")
    else:
        decode_image(data, kind, CHECK_PIXELS)


def _record(draft: Draft, modalities: Modalities) -> Sample:
    return Sample(
        id=draft.id,
        messages=draft.messages,
        domain=draft.domain,
        category=draft.category,
        source=draft.source,
        modalities=modalities,
        preference=draft.preference,
        repetition_style=draft.repetition_style,
        licence=draft.licence,
        provenance=draft.provenance,
    )


def _each(draft: Draft, modality: Modality) -> list[tuple[int, RawMedium]]:
    """A draft's media of one modality, numbered."""
    media = [medium for medium in draft.media if medium.modality == modality]
    for medium in media:
        if medium.type not in TYPES[modality]:
            raise Refused("schema", f"{modality} type {medium.type!r} is not one of {', '.join(TYPES[modality])}")
    return list(enumerate(media))


def _image(medium: RawMedium, at: int, options: MediaOptions, limits: Limits) -> tuple[Image, list[Member]]:
    stored = prepare_image(medium.data, options.image, limits)
    member = Member(name=f"image{at}.{stored.extension}", data=stored.data)
    record = Image(
        member=member.name,
        type=cast(ImageType, medium.type),
        description=medium.description,
        width=stored.width,
        height=stored.height,
    )
    return record, [member]


def _audio(medium: RawMedium, at: int, options: MediaOptions, limits: Limits) -> tuple[Audio, list[Member]]:
    stored = prepare_audio(medium.data, options.audio, limits)
    member = Member(name=f"audio{at}.flac", data=stored.data)
    record = Audio(
        member=member.name,
        type=cast(AudioType, medium.type),
        duration_seconds=stored.duration_seconds,
        sample_rate=stored.sample_rate,
        language=medium.language,
    )
    return record, [member]


def _video(medium: RawMedium, at: int, options: MediaOptions, limits: Limits) -> tuple[Video, list[Member]]:
    stored = prepare_video(medium.data, options, limits)
    name = f"video{at}"
    frames = [
        Member(name=f"{name}.kf{number:05}.jpg", data=image.data) for number, (_, image) in enumerate(stored.frames)
    ]
    sound = [Member(name=f"{name}.audio.flac", data=stored.sound.data)] if stored.sound else []
    times = [seconds for seconds, _ in stored.frames]
    record = Video(
        name=name,
        type=cast(VideoType, medium.type),
        duration_seconds=stored.duration_seconds,
        fps=stored.fps,
        width=stored.width,
        height=stored.height,
        keyframes=tuple(
            Keyframe(member=frame.name, pts_seconds=time) for frame, time in zip(frames, times, strict=True)
        ),
        audio=sound[0].name if sound else "",
        description=medium.description,
    )
    return record, frames + sound


_IMAGE_KINDS = {extension: kind for kind, extension in EXTENSIONS.items()}
