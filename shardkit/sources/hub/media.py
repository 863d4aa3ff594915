"""Media that a row names by a path within its repository, without their bytes.

Here: finding and reading them.
Elsewhere: media whose bytes are in the row (sources.parquet).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

import msgspec

from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.hub.messages import Asker
from shardkit.store.hub import HubMissing

Unpack = Callable[[str, int], bytes | None]
"""From a path within an archive, and the most bytes, to the file's."""


class Media:
    """Files of the pinned commit, up to `most_bytes` each."""

    def __init__(self, asker: Asker, most_bytes: int) -> None:
        self._asker, self._most = asker, most_bytes

    def complete(self, row: Row | BadRow, beside: str, unpack: Unpack = lambda path, most: None) -> Row | BadRow:
        """The row with the bytes of each medium that has only a path: from the top, or from the file `beside` it.

        `unpack` gets those that lie within an archive. One that is not there, or is too big, stays without; raises
        SourceFailed.
        """
        if not isinstance(row, Row):
            return row
        found: dict[str, bytes] = {}
        for field, path in row.fields.items():
            name = field.removesuffix(".path")
            if field.endswith(".path") and isinstance(path, str) and name not in row.blobs:
                data = unpack(path, self._most) if "::" in path else self._find(path, beside)
                found |= {} if data is None else {name: data}
        return msgspec.structs.replace(row, blobs={**row.blobs, **found}) if found else row

    def _find(self, path: str, beside: str) -> bytes | None:
        store = self._asker.store
        for candidate in _candidates(path, beside):
            with self._asker.asking(candidate):
                try:
                    size = store.size(candidate)
                except HubMissing as missing:
                    if missing.code == "EntryNotFound":
                        continue
                    raise
                return store.read_range(candidate, 0, size) if size <= self._most else None
        return None


def _candidates(path: str, beside: str) -> Iterator[str]:
    """Where a path may lie, within the repository: as it is, and in the folder of the file that names it."""
    whole = path.removeprefix("./")
    if not whole or whole.startswith("/") or ".." in whole.split("/") or "://" in whole or "\\" in whole:
        return
    yield whole
    folder = posixpath.dirname(beside)
    if folder:
        yield f"{folder}/{whole}"
