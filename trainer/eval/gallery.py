"""What people see and hear of a sample on a page: small pictures, its sound, its messages.

Here: keeping that of a few samples of every kind.
Elsewhere: the page (page.py), what the model sees and hears (data).
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from pathlib import PurePath

import msgspec

from shardkit import Item, Mark, split_marks, unescape_marks
from trainer.data.images import to_rgb
from trainer.data.media import spread

SOUNDS = {
    "flac": "audio/flac", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg", "opus": "audio/ogg",
}  # fmt: skip
MOST_PIXELS, MOST_FRAMES, MOST_SOUND_BYTES, MOST_TEXT = 320, 4, 2_000_000, 4000


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A sample's messages (role, text), and its pictures and sounds as data URIs; `missing` names what is too large."""

    turns: tuple[tuple[str, str], ...] = ()
    pictures: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Gallery:
    """What is shown of the first `most` samples of every kind that come."""

    def __init__(self, most: int) -> None:
        self.samples: dict[str, Shown] = {}
        self._most = most
        self._kinds: Counter[str] = Counter()

    def take(self, item: Item, kind: str) -> None:
        """Keep a sample, if there are not enough of its kind."""
        if self._kinds[kind] < self._most and item.key not in self.samples:
            self._kinds[kind] += 1
            self.samples[item.key] = show_item(item)


def show_item(item: Item) -> Shown:
    """What is shown of one sample."""
    listed = item.sample.modalities
    pictures = [image.member for image in listed.image]
    sounds = [audio.member for audio in listed.audio]
    for video in listed.video:
        names = [frame.member for frame in video.keyframes]
        pictures += [names[at] for at in spread(len(names), MOST_FRAMES)]
        sounds += [video.audio] if video.audio else []
    fitting = [name for name in sounds if len(item.members[name]) <= MOST_SOUND_BYTES]
    return Shown(
        turns=tuple((message.role, show_text(message.content)) for message in item.sample.messages),
        pictures=tuple(_picture(item.members[name]) for name in pictures),
        sounds=tuple(_uri(SOUNDS.get(PurePath(name).suffix[1:], "audio/flac"), item.members[name]) for name in fitting),
        missing=tuple(f"{name}: {len(item.members[name]):,} bytes" for name in sounds if name not in fitting),
    )


def show_text(content: str) -> str:
    """A message to read: media where they stand, the middle of a long one left out."""
    text = "".join(f"⟨{part}⟩" if isinstance(part, Mark) else unescape_marks(part) for part in split_marks(content))
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT // 2]}\n…\n{text[-MOST_TEXT // 2 :]}"


def _picture(data: bytes | memoryview) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        image = to_rgb(opened)
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(jpeg, "JPEG", quality=80)
    flat = png.tell() <= jpeg.tell()  # drawings are smaller exact
    return _uri("image/png" if flat else "image/jpeg", (png if flat else jpeg).getvalue())


def _uri(mime: str, data: bytes | memoryview) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
