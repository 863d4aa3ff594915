"""Neighbouring ranges of a file joined into few requests, and split again.

Here: which ranges travel together, and reading them so.
Elsewhere: one request and its checks (urls.py, http.py, objects.py), which ranges a reader wants (read).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

GAP_BYTES = 32 << 10
"""Unwanted bytes between two wanted ranges that are cheaper to fetch than another request: about 1 ms at 30 MB/s."""
MOST_BYTES = 16 << 20
"""Ranges are joined up to this many bytes; a single longer range stays one request."""


class Join(NamedTuple):
    """One request: where it begins, how long it is, and the numbers of the ranges inside."""

    offset: int
    length: int
    members: tuple[int, ...]


@runtime_checkable
class Viewing(Protocol):
    """A store that can give a range without a last copy into `bytes`."""

    def read_view(self, path: str, offset: int, length: int) -> memoryview:
        """A range as `read_range` gives it, in memory of its own that nobody writes to again."""
        ...


def join_ranges(
    ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES, most_bytes: int = MOST_BYTES
) -> list[Join]:
    """Requests for (offset, length) ranges in any order, also overlapping, sorted by offset; empty ranges have none."""
    joins: list[Join] = []
    for number in sorted((n for n, (_, length) in enumerate(ranges) if length), key=lambda n: ranges[n]):
        offset, length = ranges[number]
        if joins:
            last = joins[-1]
            end = max(last.offset + last.length, offset + length)
            if offset <= last.offset + last.length + gap_bytes and end - last.offset <= max(most_bytes, last.length):
                joins[-1] = Join(last.offset, end - last.offset, (*last.members, number))
                continue
        joins.append(Join(offset, length, (number,)))
    return joins


def read_joined(
    read_range: Callable[[str, int, int], bytes],
    path: str,
    ranges: Sequence[tuple[int, int]],
    gap_bytes: int = GAP_BYTES,
    most_bytes: int = MOST_BYTES,
) -> list[bytes]:
    """The bytes of each range, in the order given; each joined request goes through `read_range(path, offset, length)`.

    Raises what `read_range` raises.
    """
    found = [b""] * len(ranges)
    for join in join_ranges(ranges, gap_bytes, most_bytes):
        data = read_range(path, join.offset, join.length)
        if len(join.members) == 1:
            found[join.members[0]] = data
            continue
        view = memoryview(data)
        for number in join.members:
            offset, length = ranges[number]
            found[number] = bytes(view[offset - join.offset : offset - join.offset + length])
    return found


def read_views(
    read_view: Callable[[str, int, int], memoryview],
    path: str,
    ranges: Sequence[tuple[int, int]],
    gap_bytes: int = GAP_BYTES,
) -> list[memoryview]:
    """The same from a store that gives views: ranges of one request are views of its bytes, not copies."""
    found = [memoryview(b"")] * len(ranges)
    for join in join_ranges(ranges, gap_bytes):
        view = read_view(path, join.offset, join.length)
        for number in join.members:
            offset, length = ranges[number]
            found[number] = view[offset - join.offset : offset - join.offset + length]
    return found
