"""Archives of a repository: pinned with their members, and the readers that have them.

Here: which archives there are, tables made by the plan, from a spec to Joined, InOrder or Stems.
Elsewhere: these themselves (sources.archives), which rows they are joined to (source.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from shardkit.errors import SpecError
from shardkit.sources.archives.in_order import InOrder
from shardkit.sources.archives.joined import Joined, Reader, table_path
from shardkit.sources.archives.stems import Fetch, Stems, fetch_from, member_entries, member_of, sorted_files
from shardkit.sources.archives.zips import Zips, all_members, write_members
from shardkit.sources.compressed import is_compressed
from shardkit.sources.hub.files import match_files
from shardkit.sources.hub.messages import Asker
from shardkit.sources.listing import Entry, read_listing, write_listing
from shardkit.sources.places import Place
from shardkit.sources.walk import shown
from shardkit.spec import HubSource
from shardkit.spec.archives import ZIP


class Sizes(NamedTuple):
    """Of what was pinned: bytes of all files, and the rows where they were counted on the way."""

    bytes: int
    rows: int | None = None


def pin_archives(spec: HubSource, asker: Asker, folder: Path, place: Place, reader: Reader) -> Sizes:
    """List the archives of every column and make their tables. Raises SpecError, SourceDamaged."""
    total, rows = 0, None
    for column, archive in spec.archives.items():
        entries = match_files(asker, archive.files)
        total += write_listing(archives_folder(folder, column), entries, spec.name)[2]
        if not archive.is_zip:
            rows = InOrder(reader, spec, place, entries, 0).pin(folder)
            continue
        members = all_members(place, entries, spec.name)
        if not write_members(table_path(folder, column), members, archive):
            raise SpecError(f"source {spec.name}: its zip files hold no files; correct `archives`")
    return Sizes(total, rows)


def join(reader: Reader, spec: HubSource, folder: Path, place: Place, most_bytes: int) -> Joined | InOrder:
    """The reader with the media of its spec's archives."""
    archives = {column: tuple(read_listing(archives_folder(folder, column), spec.name)) for column in spec.archives}
    if all(archive.is_zip for archive in spec.archives.values()):
        return Joined(reader, spec, place, archives, most_bytes)
    [entries] = archives.values()
    return InOrder(reader, spec, place, entries, most_bytes)


def rereads(spec: HubSource, folder: Path) -> str:
    """What a resume reads again besides what the rows do; empty for zips, of which each member is read alone."""
    for column, archive in spec.archives.items():
        packed = [
            is_compressed(shown(entry.path)) for entry in read_listing(archives_folder(folder, column), spec.name)
        ]
        if not archive.is_zip:
            return "the start of the open .tar.gz" if any(packed) else "the headers before it in the open tar"
    return ""


def pin_stems(spec: HubSource, folder: Path, entries: tuple[Entry, ...], place: Place) -> Sizes:
    """List the files that are rows by their names, of zips their members. Raises SpecError, SourceDamaged."""
    zips = [entry for entry in entries if shown(entry.path).endswith(ZIP)]
    if not zips:
        return Sizes(write_listing(folder, sorted_files(entries, spec.name), spec.name)[2])
    if len(zips) < len(entries):
        raise SpecError(f"source {spec.name}: `data_files` matches zips and other files; name the ones or the others")
    write_listing(archives_folder(folder, ""), zips, spec.name)
    names = [shown(entry.path) for entry in zips]
    members = member_entries(all_members(place, zips, spec.name), names)
    return Sizes(write_listing(folder, sorted_files(members, spec.name), spec.name)[2])


def open_stems(spec: HubSource, folder: Path, place: Place, most_bytes: int) -> Stems:
    """The rows of pin_stems."""
    own = archives_folder(folder, "")
    if not own.exists():
        return Stems(spec, fetch_from(place, spec.name), most_bytes)
    return Stems(spec, _fetch(Zips(place, tuple(read_listing(own, spec.name)), most_bytes)), most_bytes)


def archives_folder(folder: Path, column: str) -> Path:
    """Where the listing of a column's archives lies in a source's private folder."""
    return folder / f"archives-{column.encode().hex()}"


def _fetch(zips: Zips) -> Fetch:
    return lambda entry: zips.read(member_of(entry))
