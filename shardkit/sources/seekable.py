"""What raw files over pinned bytes have in common: an offset, and pieces handed out as far as they go.

Here: the base class.
Elsewhere: where the bytes come from: local files (listing.py), ranges of URLs (web_place.py), the Hub (hub.remote).
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class SeekableFile(io.RawIOBase):
    """A read-only raw file of a known size whose bytes come in checked pieces. Not to be shared between threads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0

    def piece(self, at: int, wanted: int) -> memoryview:
        """At least one byte from `at` on, `wanted` or fewer; asked for within the file only."""
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset; costs nothing."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As far as the next piece goes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._at)
        if wanted <= 0:
            return 0
        part = self.piece(self._at, wanted)[:wanted]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
