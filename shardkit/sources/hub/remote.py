"""Files of a repository as streams, read by ranges.

Here: how much a request asks for, and that the bytes are of the file that was pinned.
Elsewhere: attempts, redirects and the token (store.hub), what an error means to the user (messages.py).
"""

from __future__ import annotations

import io
import re

from shardkit.errors import StorageFailed
from shardkit.sources.hub.messages import Asker, file_changed
from shardkit.sources.listing import Entry
from shardkit.sources.seekable import SeekableFile
from shardkit.sources.walk import shown

FIRST_BYTES = 64 << 10
AHEAD_BYTES = 4 << 20
"""Of one request while a file is read in order: each asks for twice as much as the one before, so that a few rows cost
little and many few requests."""
MOST_BYTES = 16 << 20
"""Of one request when more is asked for at once (a page of parquet): as much is held beside what the caller holds."""
WHOLE_BYTES = 16 << 20
"""What a Hub may keep in git itself (ten million bytes), and mirrors may give only as a whole."""
BUFFER_BYTES = 64 << 10
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class RemoteFile(SeekableFile):
    """A file at the pinned commit. Memory: one request's bytes.

    `in_order`: what comes next is fetched ahead. Reading raises SourceChanged where the Hub tags it with another digest
    or another size than was pinned, and what Asker raises.
    """

    def __init__(self, asker: Asker, entry: Entry, *, in_order: bool = True) -> None:
        super().__init__(entry.size)
        self._asker, self._entry, self._path = asker, entry, shown(entry.path)
        self._in_order = in_order
        self._window, self._start = memoryview(b""), 0

    def piece(self, at: int, wanted: int) -> memoryview:
        """As far as the bytes of one request go."""
        if not 0 <= at - self._start < len(self._window):
            self._fetch(wanted)
        return self._window[at - self._start :]

    def _fetch(self, wanted: int) -> None:
        """Fill the window from here on, with `wanted` bytes or more where that is not too much at once."""
        goes_on = self._in_order and len(self._window) and self._at == self._start + len(self._window)
        ahead = min(2 * len(self._window), AHEAD_BYTES) if goes_on else FIRST_BYTES
        length = min(max(min(wanted, MOST_BYTES), ahead), self._entry.size - self._at)
        self._window = memoryview(b"")  # never two at once
        with self._asker.asking(self._path):
            self._window, self._start = self._read(length)
            self._check()

    def _read(self, length: int) -> tuple[memoryview, int]:
        """(bytes, where they begin): those from here on; of a small file all, where there are no ranges of it."""
        store = self._asker.store
        try:
            return store.read_view(self._path, self._at, length), self._at
        except StorageFailed:
            if store.last_status != 200 or self._entry.size > WHOLE_BYTES:
                raise
        return memoryview(store.read(self._path, self._entry.size)), 0

    def _check(self) -> None:
        """The tag is the digest in the listing; a mirror may have tags of its own, or none."""
        size, tag = self._asker.store.seen(self._path)
        tag = tag.removeprefix("W/").strip('"')
        pinned = self._entry.digest.hex()
        if size is not None and size != self._entry.size:
            raise file_changed(self._asker.name, self._path, f"it has {size} bytes, {self._entry.size} before")
        if _DIGEST.fullmatch(tag) and len(tag) == len(pinned) and tag != pinned:
            raise file_changed(self._asker.name, self._path, "it has another digest")


def open_remote(asker: Asker, entry: Entry, *, in_order: bool = True) -> io.BufferedReader:
    """A buffered stream over a RemoteFile."""
    return io.BufferedReader(RemoteFile(asker, entry, in_order=in_order), BUFFER_BYTES)
