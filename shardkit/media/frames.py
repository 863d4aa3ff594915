"""Frames of a video: which are there, which are kept, and decoding just those.

Here: the scan of packets (nothing decoded), the choice of times, decoding to upright pictures.
Elsewhere: the stored form (video), opening containers (container).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from shardkit.errors import Refused
from shardkit.media.container import allowed_codec
from shardkit.spec import Limits

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image as Picture

MISSING_SECONDS = 1.0
"""How much earlier than declared the last frame may end: containers round, and sound may run longer."""


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """A video's packets: display times of all frames and of the keyframes, in ticks, sorted; the first is the start."""

    times: tuple[int, ...]
    keys: tuple[int, ...]
    end: int
    tick: Fraction

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last one's end."""
        return round(float((self.end - self.times[0]) * self.tick), 6)

    @property
    def fps(self) -> float:
        """Mean rate of frames."""
        seconds = (self.end - self.times[0]) * self.tick
        return round(float(len(self.times) / seconds), 6) if seconds > 0 else 0.0

    def seconds(self, time: int) -> float:
        """A display time in seconds from the start."""
        return round(float((time - self.times[0]) * self.tick), 6)


def scan_video(container: InputContainer, stream: VideoStream, limits: Limits) -> Scan:
    """Times of all frames, from the packets alone.

    Raises Refused (`too-many-pixels`, `too-many-frames`, `too-long-media`; `video-damaged` where a packet is marked
    so or fewer are there than the container declares).
    """
    allowed_codec(stream, "video-damaged")
    if stream.codec_context.width * stream.codec_context.height > limits.image_pixels:
        raise Refused("too-many-pixels", "a video's frames have more pixels than limits.image_pixels")
    times: list[int] = []
    keys: list[int] = []
    end = packets = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        packets += 1
        time = _time(packet)
        if packet.is_corrupt or time is None:
            raise Refused("video-damaged", "a packet is damaged or has no time")
        if packets > limits.video_frames:
            raise Refused("too-many-frames", f"more than {limits.video_frames} frames")
        if packet.is_discard:
            continue
        times.append(time)
        keys += [time] if packet.is_keyframe else []
        end = max(end, time + (packet.duration or 0)) if len(times) > 1 else time + (packet.duration or 0)
    declared = stream.frames if "mp4" in container.format.name else 0  # an AVI counts frames that it leaves out
    if packets < declared or not keys or not stream.time_base:
        raise Refused("video-damaged", f"{packets} frames of {declared} declared, {len(keys)} keyframes")
    return _checked(container, Scan(times=tuple(sorted(times)), keys=tuple(sorted(keys)), end=end,
                                    tick=stream.time_base), limits)  # fmt: skip


def choose_times(scan: Scan, wanted: int) -> tuple[int, ...]:
    """Display times of the frames to keep, in order.

    With more keyframes than wanted, keyframes evenly spread over their list, the first and the last among them. With
    fewer, all of them, and the frames nearest the middle of the longest remaining gap, again and again. `wanted` 0
    means all keyframes. A video with fewer frames than wanted gives all that it has.
    """
    keys = tuple(sorted(set(scan.keys)))
    if wanted == 0 or wanted == len(keys):
        return keys
    if wanted == 1:
        return keys[:1]
    if wanted < len(keys):
        return tuple(keys[(at * (len(keys) - 1) + (wanted - 1) // 2) // (wanted - 1)] for at in range(wanted))
    return _filled(keys, tuple(sorted(set(scan.times))), scan.end, wanted)


def decode_times(
    container: InputContainer, stream: VideoStream, times: tuple[int, ...], scan: Scan
) -> Iterator[tuple[int, Picture]]:
    """(display time, upright RGB picture) for each of `times`, in order. Raises Refused (`video-damaged`)."""
    codec = stream.codec_context
    codec.thread_count = 1
    container.seek(0)
    only_keys = set(times) <= set(scan.keys)
    found = _keyframes(container, stream, set(times)) if only_keys else _in_order(container, stream, times)
    count = 0
    for time, frame in found:
        count += 1
        yield time, picture_of(frame, stream)
    if count != len(times):
        raise Refused("video-damaged", f"{count} of {len(times)} frames could be decoded")


def _checked(container: InputContainer, scan: Scan, limits: Limits) -> Scan:
    if scan.duration_seconds > limits.video_seconds:
        raise Refused("too-long-media", f"longer than {limits.video_seconds:g} s")
    declared = (container.duration or 0) / 1_000_000
    ends = float(scan.end * scan.tick)  # from zero, not from the first frame: as Matroska counts its duration
    if not container.streams.audio and ends < declared * 0.95 - MISSING_SECONDS:
        raise Refused("video-damaged", "frames end before the declared duration")
    return scan


def _time(packet: Packet[VideoStream]) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _filled(keys: tuple[int, ...], times: tuple[int, ...], end: int, wanted: int) -> tuple[int, ...]:
    chosen = list(keys)
    free = [time for time in times if time not in set(keys)]
    while len(chosen) < wanted and free:
        edges = [*chosen, max(end, times[-1])]
        gaps = [(edges[at + 1] - edges[at], -at) for at in range(len(chosen))]
        inside: list[int] = []
        for _, negative in sorted(gaps, reverse=True):
            low, high = edges[-negative], edges[1 - negative]
            inside = free[bisect_left(free, low) : bisect_left(free, high + 1)]
            if inside:
                break
        else:
            inside, low, high = free, free[0], free[-1]
        nearest = min(inside, key=lambda time: (abs(2 * time - low - high), time))
        free.remove(nearest)
        chosen.insert(bisect_left(chosen, nearest), nearest)
    return tuple(chosen)


def _keyframes(container: InputContainer, stream: VideoStream, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Chosen keyframes, each decoded alone: nothing between them is even looked at."""
    codec = stream.codec_context
    codec.skip_frame = "NONKEY"
    for packet in container.demux(stream):
        time = _time(packet)
        if packet.size and packet.is_keyframe and not packet.is_discard and time in wanted:
            wanted.discard(time)
            frames = [*codec.decode(packet), *codec.decode(None)]
            codec.flush_buffers()
            yield from ((time, frame) for frame in frames[:1])


def _in_order(
    container: InputContainer, stream: VideoStream, times: tuple[int, ...]
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames at chosen times, keyframes or not, by decoding from the start up to the last of them."""
    waiting = list(times)
    for packet in container.demux(stream):
        for frame in stream.codec_context.decode(packet):
            time = frame.dts if frame.pts is None else frame.pts
            if waiting and time is not None and time >= waiting[0]:
                yield waiting.pop(0), frame
        if not waiting:
            return


def picture_of(frame: VideoFrame, stream: VideoStream) -> Picture:
    """A frame as shown: RGB, square pixels, turned as its display matrix says.

    swscale's exact paths are asked for: its fast ones differ between processors.
    """
    from av.video.reformatter import Interpolation
    from PIL import Image

    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    rgb = frame.reformat(format="rgb24", interpolation=exact, threads=1)
    picture = Image.fromarray(rgb.to_ndarray())
    ratio = stream.sample_aspect_ratio
    if ratio and ratio > 0 and ratio != 1:
        picture = picture.resize(_square(picture.size, Fraction(ratio)), Image.Resampling.LANCZOS)
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return picture
    return picture.transpose(
        (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[turns - 1]
    )


def _square(size: tuple[int, int], ratio: Fraction) -> tuple[int, int]:
    """Size with square pixels: the side that must change grows, so that no pixel is lost. Odd ratios are capped."""
    ratio = min(max(ratio, Fraction(1, 4)), Fraction(4))
    if ratio > 1:
        return round(size[0] * ratio), size[1]
    return size[0], round(size[1] / ratio)
