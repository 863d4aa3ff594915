"""Media that are decoded when their pack is handed out: until then a sample waits with its files' bytes.

Here: what stands for an image or a window of sound, and decoding it.
Elsewhere: which media a sample has (media.py), packs (packs.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from trainer.data.images import Decode, load_image
from trainer.data.sounds import HOP, Floats, load_sound, window_of


class LaterImage(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded image and how it is to be decoded; `nbytes` of memory."""

    data: bytes
    size: int
    decode: Decode

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self.data)


class LaterWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The `at`-th window of an encoded recording, which all its windows share."""

    data: bytes
    at: int
    mels: int
    frames: int
    waves: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes held, counted with the first window."""
        return 0 if self.at else len(self.data)


def decode_images(images: Iterable[Any]) -> tuple[Any, ...]:
    """Images as arrays, those that are arrays as they are. Raises OSError or ValueError where one does not decode."""
    return tuple(_image(image) for image in images)


def decode_windows(windows: Iterable[Any]) -> tuple[Any, ...]:
    """Windows of sound as arrays, a recording decoded once for all of its windows. Raises ValueError."""
    waves: dict[int, Floats] = {}
    return tuple(_window(window, waves) for window in windows)


def _image(image: Any) -> Any:
    return load_image(image.data, image.size, image.decode) if isinstance(image, LaterImage) else image


def _window(window: Any, waves: dict[int, Floats]) -> Any:
    if not isinstance(window, LaterWindow):
        return window
    recording = id(window.data)
    if recording not in waves:
        waves[recording] = load_sound(window.data)
    step = window.frames * HOP
    part = waves[recording][window.at * step : (window.at + 1) * step]
    return window_of(part, window.mels, window.frames, waves=window.waves)
