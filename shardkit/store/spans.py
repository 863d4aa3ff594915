"""The spans of many samples, laid out together: headers, data and padding in one buffer, and a hash of each.

Here: samples that wait, their bytes as they stand in the tar, where each member lies.
Elsewhere: one header (tar.py), what becomes of the bytes (streams.py), the rows of the index (pages.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xxhash

from shardkit.store import tar

Buffer = bytes | bytearray | memoryview
Part = tuple[str, bytes, bytes]
"""A member: its name, its data, their BLAKE3-128."""


ROW = 5
"""Fields of a sample that waits: key, members, bytes of the span, the index's numbers packed, the index's words."""

Waiting = list[Any]
"""Samples that were taken but are not in the tar yet, ROW fields each, one behind the other.

Such a list grows by one call a sample, and each of its slices is a column.
"""


class Columns(NamedTuple):
    """Samples that wait as columns: a row a sample, then a row a member."""

    keys: Sequence[str]
    counts: np.ndarray
    """Members of each."""
    ends: np.ndarray
    """Where each span ends, counted from the first one's beginning."""
    numbers: Sequence[bytes]
    words: Sequence[tuple[str, ...]]
    names: Sequence[str]
    data: Sequence[bytes]
    digests: Sequence[bytes]


class Spans(NamedTuple):
    """The bytes; XXH3-64 of each span; sizes of the members' data, and their offsets within their span."""

    pieces: list[Buffer]
    hashes: list[int]
    member_sizes: np.ndarray
    member_offsets: np.ndarray


def as_columns(waiting: Waiting) -> Columns:
    """The samples that wait, at least one, as columns."""
    parts: list[Sequence[Part]] = waiting[1::ROW]
    names, data, digests = zip(*itertools.chain.from_iterable(parts), strict=True)
    return Columns(
        keys=waiting[0::ROW],
        counts=np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)),
        ends=np.array(waiting[2::ROW], dtype=np.int64).cumsum(),
        numbers=waiting[3::ROW],
        words=waiting[4::ROW],
        names=names,
        data=data,
        digests=digests,
    )


def lay_out(samples: Columns) -> Spans:
    """The bytes of all samples that wait, in one buffer.

    Copying once is cheaper than many small calls, and hashes of long runs are twice as fast as those of their pieces.
    """
    sizes, stored, offsets = _measure(samples)
    gaps = (stored - sizes)[:-1].tolist()  # the padding behind each member, and room for the next one's header
    pieces: list[bytes] = [_GAPS[tar.BLOCK]] * (2 * len(gaps) + 3)
    pieces[1::2] = samples.data
    pieces[2::2] = [*map(_GAPS.__getitem__, gaps), tar.padding(int(sizes[-1]))]
    buffer = bytearray().join(pieces)
    rows = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, tar.BLOCK)
    rows[(np.cumsum(stored) - stored) // tar.BLOCK] = tar.headers(_member_keys(samples), samples.names, sizes)
    return Spans([buffer], _hashes(buffer, samples.ends), sizes, offsets)


def lay_out_apart(samples: Columns) -> Spans:
    """The bytes of one large sample: headers and data one by one, so that the data are not copied."""
    sizes, _, offsets = _measure(samples)
    headers = tar.headers(_member_keys(samples), samples.names, sizes).tobytes()
    pieces: list[Buffer] = []
    span = xxhash.xxh3_64()
    for at, data in enumerate(samples.data):
        pieces += (headers[at * tar.BLOCK : (at + 1) * tar.BLOCK], data, tar.padding(len(data)))
    for piece in pieces:
        span.update(piece)
    return Spans(pieces, [span.intdigest()], sizes, offsets)


_GAPS = [bytes(size) for size in range(2 * tar.BLOCK)]


def _measure(samples: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes of each member's data, bytes that it takes in the tar, offset of the data in its span)."""
    sizes = np.fromiter(map(len, samples.data), dtype=np.int64, count=len(samples.data))
    stored = tar.BLOCK + ((sizes + (tar.BLOCK - 1)) & -tar.BLOCK)
    if len(samples.keys) == len(samples.data):
        return sizes, stored, np.full(len(sizes), tar.BLOCK)
    begins, counts = np.cumsum(stored) - stored, samples.counts
    return sizes, stored, begins - np.repeat(begins[np.cumsum(counts) - counts], counts) + tar.BLOCK


def _member_keys(samples: Columns) -> bytes:
    """The key of each member's sample, one behind the other."""
    keys = samples.keys
    if len(keys) != len(samples.data):
        keys = [key for key, count in zip(keys, samples.counts.tolist(), strict=True) for _ in range(count)]
    return "".join(keys).encode("ascii")


def _hashes(buffer: bytearray, ends: np.ndarray) -> list[int]:
    view, digest, stops = memoryview(buffer), xxhash.xxh3_64_intdigest, ends.tolist()
    return [digest(view[start:stop]) for start, stop in itertools.pairwise([0, *stops])]
