"""All pages of an index as one, by columns: pages of one layout are cut up together, not decoded one by one.

Here: finding where a page's columns lie, and joining runs of like pages.
Elsewhere: what a page holds and the digests (index.py).

A shard of 10,000 chats has 624 pages of one layout and a shorter one: 2 ms, where decoding them took 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

WORTH = 4
"""Pages of one length in a row from which on they are cut up together."""

Places = dict[str, tuple[int, int]]


def join_pages(
    data: memoryview, starts: Sequence[int], decoder: msgspec.msgpack.Decoder[Any]
) -> tuple[dict[str, bytes], list[int]]:
    """Every column of the pages [starts[i], starts[i + 1]) joined, and how many samples each page lists.

    `decoder` is that of a page. Raises what it raises.
    """
    columns: dict[str, list[bytes]] = {}
    samples: list[int] = []
    numbers = range(len(starts) - 1)
    for size, run in groupby(numbers, key=lambda number: starts[number + 1] - starts[number]):
        pages = list(run)
        begin, end = starts[pages[0]], starts[pages[-1] + 1]
        cut = _cut_up(data[begin:end], size, decoder) if len(pages) >= WORTH else None
        if cut is not None:
            _add(columns, cut)
            samples += [len(cut["keys"]) // 16 // len(pages)] * len(pages)
            continue
        for number in pages:
            page = decoder.decode(data[starts[number] : starts[number + 1]])
            _add(columns, {name: getattr(page, name) for name in page.__struct_fields__})
            samples.append(page.samples)
    return {name: b"".join(parts) for name, parts in columns.items()}, samples


def _cut_up(data: memoryview, size: int, decoder: msgspec.msgpack.Decoder[Any]) -> dict[str, bytes] | None:
    """The columns of pages of `size` bytes; None where they are not all laid out as the first one."""
    places = _places(data[:size], decoder.decode(data[:size]))
    if places is None:
        return None
    table = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    frame = np.ones(size, dtype=bool)
    for offset, length in places.values():
        frame[offset : offset + length] = False
    if not bool((table[:, frame] == table[0, frame]).all()):
        return None
    return {name: table[:, offset : offset + length].tobytes() for name, (offset, length) in places.items()}


def _places(data: memoryview, page: Any) -> Places | None:
    """Where each column's bytes lie in a page; None where it is not encoded as we encode it."""
    if msgspec.msgpack.encode(page) != data:
        return None
    present = [name for name in page.__struct_fields__ if getattr(page, name) or name not in _OMITTED]
    at = 1 if len(present) < 16 else 3
    places: Places = {}
    for name in present:
        length = len(getattr(page, name))
        at += 1 + len(name) + (2 if length < 1 << 8 else 3 if length < 1 << 16 else 5)
        places[name] = (at, length)
        at += length
    return places if at == len(data) else None


_OMITTED = ("names", "name_lengths", "chunk_digests")
"""Columns that only tars of others have."""


def _add(columns: dict[str, list[bytes]], page: dict[str, bytes]) -> None:
    for name, column in page.items():
        columns.setdefault(name, []).append(column)
