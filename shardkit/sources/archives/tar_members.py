"""The members of a tar one after the other, those that nobody wants passed over at the least cost.

Here: plain tars, in which long members are jumped over, and compressed ones, which are read through.
Elsewhere: what a header may say (store.foreign), decompression (compressed.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from shardkit.errors import ShardDamaged, SourceDamaged
from shardkit.sources.archives.names import is_rubbish
from shardkit.sources.compressed import damage_named, is_compressed, open_stream
from shardkit.sources.listing import Entry
from shardkit.sources.places import Place
from shardkit.sources.walk import shown
from shardkit.store.foreign import ForeignFile, ForeignLimits, ForeignReader
from shardkit.store.tar import BLOCK

READING = ForeignLimits(unended=True)


class TarMember(NamedTuple):
    """A file in a tar: where its header begins and its data end (decompressed), its bytes while it is the present one.

    `read` gives the data once, before the next member is asked for.
    """

    name: str
    start: int
    end: int
    size: int
    read: Callable[[], bytes]


def tar_members(place: Place, entry: Entry, name: str) -> Iterator[TarMember]:
    """The files of a tar in order. Raises SourceDamaged (cut, hostile), and as Place."""
    path = shown(entry.path)
    where = f"source {name}: {path}"
    with place.open(entry) as raw, damage_named(raw, path, name), _damage():
        if is_compressed(path):
            yield from _streamed(open_stream(raw, path), where)
        else:
            yield from _jumped(raw, entry.size, where)


def _streamed(stream: io.BufferedReader, where: str) -> Iterator[TarMember]:
    reader = ForeignReader(stream, where, READING)
    for file in reader.files():
        if not file.is_folder and not is_rubbish(file.name):
            yield _member(file, reader, 0)


def _jumped(stream: io.BufferedReader, size: int, where: str) -> Iterator[TarMember]:
    """A new reader for each member: what lies between two that are wanted is never asked for."""
    at = 0
    while True:
        stream.seek(at)
        reader = ForeignReader(stream, f"{where} from byte {at} on", READING, size - at)
        file = next(reader.files(), None)
        if file is None:
            return
        member = _member(file, reader, at)
        if not file.is_folder and not is_rubbish(file.name):
            yield member
        at = member.end


def _member(file: ForeignFile, reader: ForeignReader, before: int) -> TarMember:
    end = file.offset + file.size + -file.size % BLOCK
    return TarMember(file.name, before + file.start, before + end, file.size, lambda: b"".join(reader.pieces()))


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except ShardDamaged as error:
        raise SourceDamaged(f"{error}; replace it with a whole copy") from None
