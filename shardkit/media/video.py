"""Videos in their stored form: a few frames with their times, and the sound track.

Here: one video's bytes to JPEGs, times and FLAC.
Elsewhere: the choice of frames (frames), sound (audio), naming members (prepare).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shardkit.errors import Refused
from shardkit.media.audio import StoredSound, longest_seconds, store_sound
from shardkit.media.container import open_container
from shardkit.media.frames import Scan, choose_times, decode_times, scan_video
from shardkit.media.image import StoredImage, encode_image, shrink
from shardkit.media.sniff import sniff
from shardkit.media.sound import decode_track
from shardkit.spec import Limits, MediaOptions, VideoOptions

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


class StoredVideo(msgspec.Struct, frozen=True, kw_only=True):
    """One video ready to be stored: frames with their times in seconds from the start, and sound where it has any.

    `fps` is the original's mean rate; width and height in pixels as shown, before `max_side`.
    """

    frames: tuple[tuple[float, StoredImage], ...]
    sound: StoredSound | None
    duration_seconds: float
    fps: float
    width: int
    height: int


def prepare_video(data: bytes, options: MediaOptions, limits: Limits) -> StoredVideo:
    """A video of any allowed format in its stored form.

    `options.video.keyframes` frames are kept: keyframes where it has that many, else all keyframes and further frames
    spread over the gaps, so that samples of one source have equal member names (see `choose_times`).
    Raises Refused (`unknown-media`, `video-damaged`, `audio-damaged`, `too-many-pixels`, `too-many-frames`,
    `too-long-media`).
    """
    kind = sniff("video", data)
    with open_container(data, kind, "video-damaged", limits.image_pixels) as container:
        stream = _first_video(container)
        scan = scan_video(container, stream, limits)
        times = choose_times(scan, options.video.keyframes)
        frames, size = _store_frames(container, stream, (scan, times), options.video)
    sound = _sound_track(data, kind, options, limits) if options.video.audio else None
    return StoredVideo(
        frames=frames,
        sound=sound,
        duration_seconds=scan.duration_seconds,
        fps=scan.fps,
        width=size[0],
        height=size[1],
    )


def _first_video(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; a cover picture is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise Refused("video-damaged", "no video stream")


def _store_frames(
    container: InputContainer, stream: VideoStream, chosen: tuple[Scan, tuple[int, ...]], options: VideoOptions
) -> tuple[tuple[tuple[float, StoredImage], ...], tuple[int, int]]:
    """JPEGs with their times, and the size as shown."""
    scan, times = chosen
    stored: list[tuple[float, StoredImage]] = []
    shown = (0, 0)
    for time, picture in decode_times(container, stream, times, scan):
        shown = shown if stored else picture.size
        if max(picture.size) > options.max_side:
            picture = shrink(picture, options.max_side)
        jpeg = encode_image(picture, "jpeg", options.quality)
        image = StoredImage(data=jpeg, extension="jpg", width=picture.width, height=picture.height)
        stored.append((scan.seconds(time), image))
    return tuple(stored), shown


def _sound_track(data: bytes, kind: str, options: MediaOptions, limits: Limits) -> StoredSound | None:
    """The first sound track, as stored sound; none where the video has none or it is empty."""
    with open_container(data, kind, "video-damaged") as container:
        if not container.streams.audio:
            return None
        blocks = decode_track(container, container.streams.audio[0])
        bounds = msgspec.structs.replace(options.audio, min_seconds=0.0)
        try:
            return store_sound(blocks, bounds, longest_seconds(bounds, limits.video_seconds))
        except Refused as refused:
            if refused.reason == "too-short":
                return None
            raise
