"""Where the files of a source lie, apart from what is in them.

Here: what the formats (jsonl, csv, json, parquet, media) ask of a place, and the local folder.
Elsewhere: files at URLs (web_place.py), files of a Kaggle dataset (kaggle.py), the listing that pins them (listing.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from shardkit.sources.listing import Entry, open_pinned, pin_files
from shardkit.sources.walk import walk

Selected = Callable[[str], bool]
Fits = Callable[[int], bool]


class Place(Protocol):
    """Files that can be listed once and read again later, at any offset, as they were."""

    def pin(self, folder: Path, selected: Selected, fits: Fits = lambda size: True) -> tuple[str, int, int]:
        """Write the listing of the selected files into `folder`: (revision, number of files, bytes in all).

        `fits` judges a file's size in bytes. Raises SpecError (none, unreadable), SourceFailed.
        """
        ...

    def open(self, entry: Entry) -> io.BufferedReader:
        """A seekable stream of a listed file's bytes. Reading raises SourceChanged (not as listed), SourceFailed."""
        ...


class LocalPlace:
    """A folder or one file of this machine; every byte is checked against the digests of the listing."""

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name

    def pin(self, folder: Path, selected: Selected, fits: Fits = lambda size: True) -> tuple[str, int, int]:
        """See Place."""
        files = ((relative, size) for relative, size in walk(self._path, selected, self._name) if fits(size))
        return pin_files(folder, self._path, files, self._name)

    def open(self, entry: Entry) -> io.BufferedReader:
        """See Place."""
        return open_pinned(self._path, entry, self._name)
