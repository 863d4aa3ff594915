"""The spans of many samples, laid out together: headers, data and padding in one buffer, and a hash of each.

Here: samples that wait, their bytes as they stand in the tar, where each member lies.
Elsewhere: one header (tar.py), what becomes of the bytes (streams.py), the rows of the index (pages.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from shardkit.store import tar
from shardkit.store.index import Facts

Buffer = bytes | bytearray | memoryview


class Waiting:
    """Samples that were taken but are not in the tar yet; rows a sample, then rows a member."""

    __slots__ = ("counts", "data", "digests", "facts", "keys", "names", "sizes")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.facts: list[Facts] = []
        self.counts: list[int] = []
        self.sizes: list[int] = []
        """Bytes of each span."""
        self.names: list[str] = []
        self.data: list[bytes] = []
        self.digests: list[bytes] = []


class Spans(NamedTuple):
    """Where everything lies: XXH3-64 of each span; member sizes, and offsets of their data within their span."""

    pieces: list[Buffer]
    hashes: list[int]
    member_sizes: np.ndarray
    member_offsets: np.ndarray


def lay_out(waiting: Waiting) -> Spans:
    """The bytes of all samples that wait, in one buffer.

    Copying once is cheaper than many small calls, and hashes of long runs are twice as fast as those of their pieces.
    """
    sizes, stored, offsets = _measure(waiting)
    gaps = (stored - sizes)[:-1]  # the padding behind each member, and room for the next one's header
    pieces: list[bytes] = [tar.PADDING[0]] * (2 * len(sizes) + 1)
    pieces[0] = _GAPS[tar.BLOCK]
    pieces[1::2] = waiting.data
    pieces[2::2] = [*map(_GAPS.__getitem__, gaps.tolist()), tar.padding(int(sizes[-1]))]
    buffer = bytearray().join(pieces)
    rows = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, tar.BLOCK)
    rows[(np.cumsum(stored) - stored) // tar.BLOCK] = tar.headers(_member_keys(waiting), waiting.names, sizes)
    return Spans([buffer], _hashes(buffer, waiting.sizes), sizes, offsets)


def lay_out_apart(waiting: Waiting) -> Spans:
    """The bytes of one large sample: headers and data one by one, so that the data are not copied."""
    sizes, _, offsets = _measure(waiting)
    headers = tar.headers(_member_keys(waiting), waiting.names, sizes).tobytes()
    pieces: list[Buffer] = []
    span = xxhash.xxh3_64()
    for at, data in enumerate(waiting.data):
        pieces += (headers[at * tar.BLOCK : (at + 1) * tar.BLOCK], data, tar.padding(len(data)))
    for piece in pieces:
        span.update(piece)
    return Spans(pieces, [span.intdigest()], sizes, offsets)


_GAPS = [bytes(size) for size in range(2 * tar.BLOCK)]


def _measure(waiting: Waiting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes of each member's data, bytes that it takes in the tar, offset of the data in its span)."""
    sizes = np.fromiter(map(len, waiting.data), dtype=np.int64, count=len(waiting.data))
    stored = tar.BLOCK + ((sizes + (tar.BLOCK - 1)) & -tar.BLOCK)
    if len(waiting.keys) == len(waiting.data):
        return sizes, stored, np.full(len(sizes), tar.BLOCK)
    begins = np.cumsum(stored) - stored
    counts = np.array(waiting.counts)
    return sizes, stored, begins - np.repeat(begins[np.cumsum(counts) - counts], counts) + tar.BLOCK


def _member_keys(waiting: Waiting) -> bytes:
    """The key of each member's sample, one behind the other."""
    keys: Sequence[str] = waiting.keys
    if len(keys) != len(waiting.data):
        keys = [key for key, count in zip(keys, waiting.counts, strict=True) for _ in range(count)]
    return "".join(keys).encode("ascii")


def _hashes(buffer: bytearray, sizes: Sequence[int]) -> list[int]:
    view, digest = memoryview(buffer), xxhash.xxh3_64_intdigest
    ends = np.cumsum(sizes).tolist()
    return [digest(view[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
