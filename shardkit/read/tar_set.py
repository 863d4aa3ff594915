"""The tars that a user names as one dataset: where each lies, what it is called in the manifest, whether it changed.

Here: naming them, looking at sizes and tags, the name of the whole, what is asked of their samples.
Elsewhere: expanding braces and globs (store.patterns), indexing (foreign.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import blake3
import msgspec

from shardkit.errors import FileMissing, SpecError
from shardkit.store.patterns import expand, is_pattern, open_file, split_file
from shardkit.store.scrub import scrub
from shardkit.store.urls import ByteStore, LocalStore, Tagged

ENDINGS = (".tar", ".tar.zst", ".tar.gz", ".tgz")
"""What names a tar; gzip's are told what to do when they are looked at."""

LOOKING_THREADS = 32
MAX_NAME = 64

Urls = str | Path | Sequence[str | Path]
Wanted = tuple[tuple[str, ...], ...]
"""Members that every sample must have: all of the outer ones, any of each inner ones."""


class TarFile(msgspec.Struct, frozen=True, kw_only=True):
    """One tar: its path in the manifest, its URL as the user gave it (or absolute path), its bytes and its tag."""

    path: str
    place: str
    bytes: int
    tag: str


class TarSet(msgspec.Struct, frozen=True, kw_only=True):
    """Tars in their order, under one name. `url` is how messages call them, without secrets."""

    name: str
    url: str
    tars: tuple[TarFile, ...]

    @property
    def places(self) -> dict[str, str]:
        """Their URLs by the paths in the manifest."""
        return {tar.path: tar.place for tar in self.tars}

    def digest(self) -> str:
        """BLAKE3-256 over names, sizes and tags: another one when a tar changes."""
        told = [[tar.path, tar.bytes, tar.tag] for tar in self.tars]
        return blake3.blake3(msgspec.json.encode([self.name, told])).hexdigest()


def is_tars(url: object) -> bool:
    """Whether what a user gives as a dataset names tars, in place of a dataset's folder or URL."""
    if isinstance(url, (list, tuple)):
        return bool(url) and all(is_tars(one) for one in url)
    if not isinstance(url, (str, Path)):
        return False
    text = str(url)
    path = urlsplit(text).path if "://" in text else text
    return path.lower().endswith(ENDINGS) or is_pattern(text)


def name_tars(urls: Urls) -> list[str]:
    """URLs and absolute paths of the tars that are meant. Raises SpecError (nothing matches, no tar)."""
    found = [place if "://" in place else str(Path(place).expanduser().absolute()) for place in expand(urls)]
    other = next((place for place in found if not is_tars(place)), None)
    if other is not None:
        raise SpecError(f"{scrub(other)} is no tar: wanted a name that ends in .tar or .tar.zst; narrow the pattern")
    odd = next((place for place in found if "\\" in place), None)
    if odd is not None:
        raise SpecError(f"{scrub(odd)} has a backslash in its name, which no manifest may hold; rename it")
    return found


def look_at_tars(urls: Urls, paths: Sequence[str] | None = None) -> TarSet:
    """The tars that are meant with their sizes and tags; `paths` are theirs in the manifest, by default `short_paths`.

    Raises SpecError (also where a tar is not there), StorageFailed.
    """
    places = name_tars(urls)
    stores: dict[str, ByteStore] = {}
    for place in places:
        folder = split_file(place)[0]
        if folder not in stores:
            stores[folder] = open_file(place)[0]

    def look(place: str) -> tuple[int, str]:
        try:
            return measure(place)
        except FileMissing as error:  # named by the user: a typo, not damage
            found = str(error).partition(";")[0]
            raise SpecError(f"{found}; check the names of the tars, or the pattern that named them") from error

    def measure(place: str) -> tuple[int, str]:
        folder, name = split_file(place)
        store = stores[folder]
        if isinstance(store, LocalStore):
            tag = store.tag(name)  # before it is opened: a named pipe would keep whoever opens it waiting
            return store.size(name), tag
        size = store.size(name)
        return size, store.tag(name) if isinstance(store, Tagged) else ""

    with ThreadPoolExecutor(min(LOOKING_THREADS, len(places)), thread_name_prefix="shardkit-look") as pool:
        found = list(pool.map(look, places))
    tars = tuple(
        TarFile(path=path, place=place, bytes=size, tag=tag)
        for path, place, (size, tag) in zip(paths or short_paths(places), places, found, strict=True)
    )
    return TarSet(name=common_name(places), url=_shown(urls), tars=tars)


def short_paths(places: Sequence[str]) -> list[str]:
    """Paths below the folder that all tars share: the same wherever that folder lies. Without one, numbered names."""
    texts = [scrub(place) for place in places]
    split = [text.split("/") for text in texts]
    shared = _shared([parts[:-1] for parts in split])
    if shared < (3 if any("://" in text for text in texts) else 1):
        return [f"{number}/{parts[-1]}" for number, parts in enumerate(split)]
    return ["/".join(parts[shared:]) for parts in split]


def paths_from(folder: Path, places: Sequence[str]) -> list[str]:
    """Paths of tars as a dataset in `folder` names them: relative to it, or the URL without secrets."""
    root = folder.absolute()
    return [scrub(place) if "://" in place else Path(os.path.relpath(place, root)).as_posix() for place in places]


def common_name(places: Sequence[str]) -> str:
    """What the names of the files have in common at their beginning, as a name of a source: `shard`, or `tars`."""
    names = [split_file(place)[1] for place in places]
    stems = [re.sub(r"\.(tar|tgz).*$", "", name, flags=re.IGNORECASE) for name in names]
    stem = stems[0][: _shared(stems)]
    if len(names) > 1:
        stem = stem.rstrip("0123456789")
    plain = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:MAX_NAME]
    return plain or "tars"


def parse_wanted(text: str) -> Wanted:
    """`jpg|png,txt` as members that samples must have. Raises SpecError for an empty name."""
    wanted = (
        tuple(tuple(name.strip().lower() for name in group.split("|")) for group in text.split(",")) if text else ()
    )
    if any(not name for group in wanted for name in group):
        raise SpecError(f"--require {text!r}: found an empty name; write extensions, such as jpg,json or jpg|png,txt")
    return wanted


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """How many first elements (of lists) or characters (of texts) all have in common."""
    first = rows[0]
    same = (all(row[at : at + 1] == first[at : at + 1] for row in rows) for at in range(len(first)))
    return next((at for at, held in enumerate(same) if not held), len(first))


def _shown(urls: Urls) -> str:
    if isinstance(urls, (str, Path)):
        return scrub(str(urls))
    given = [scrub(str(url)) for url in urls]
    return given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"
