"""Sorted tables on disk: found by a mark, never held as a whole.

Here: writing one in bounded memory, finding the records of a mark.
Elsewhere: what the records are (zips.py, in_order.py).

A table is a file of packed numpy records whose first fields are `high` and `low`, the mark, sorted by it; records of
one mark keep the order in which they were given.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardkit.errors import SourceFailed
from shardkit.sources.archives.names import Mark
from shardkit.sources.listing import write_private
from shardkit.store import fs

Records = npt.NDArray[np.void]
MARK: list[tuple[str, str]] = [("high", "<u8"), ("low", "<u8")]
RUN_RECORDS = 1 << 17
"""Sorted at once: some 7 MB, five times over. Of more there are runs on disk, merged range by range: marks are
spread evenly."""
BLOCK_RECORDS = 1 << 13


def write_table(path: Path, dtype: np.dtype[np.void], records: Iterable[tuple[Any, ...]]) -> int:
    """Write a table of records given in any order; returns how many. Raises StorageFailed."""
    runs: list[Path] = []
    count = 0
    for run in _runs(dtype, records):
        count += len(run)
        runs.append(path.with_name(f"{path.name}.run{len(runs)}"))
        write_private(runs[-1], [run.tobytes()])
    if len(runs) == 1:
        fs.replace(runs[0], path)
        fs.sync_folder(path.parent)
        return count
    opened = [np.memmap(one, dtype=dtype, mode="r") for one in runs]
    write_private(path, _merged(opened, dtype))
    del opened
    for done in runs:
        fs.unlink(done)
    return count


class Table:
    """A table opened for looking up. Raises SourceFailed where it is not there or not whole."""

    def __init__(self, path: Path, dtype: np.dtype[np.void], name: str) -> None:
        try:
            size = path.stat().st_size
            if size % dtype.itemsize:
                raise ValueError
            self._records: Records = np.memmap(path, dtype=dtype, mode="r") if size else np.zeros(0, dtype)
        except (OSError, ValueError):
            raise SourceFailed(
                f"source {name}: its table of members under .build is missing; build with --update to make it again"
            ) from None
        self._high: Any = self._records["high"]

    def find(self, mark: Mark) -> Records:
        """The records of a mark, in the order in which they were given."""
        first = bisect_left(self._high, mark[0])  # numpy's own search would copy the column each time
        found = self._records[first : bisect_right(self._high, mark[0], lo=first)]
        return np.array(found[found["low"] == np.uint64(mark[1])])


def _runs(dtype: np.dtype[np.void], records: Iterable[tuple[Any, ...]]) -> Iterator[Records]:
    held: list[Records] = []
    stream = iter(records)
    while block := list(islice(stream, BLOCK_RECORDS)):
        held.append(np.array(block, dtype))
        if sum(map(len, held)) >= RUN_RECORDS:
            yield _sorted(np.concatenate(held))
            held.clear()
    if held:
        yield _sorted(np.concatenate(held))


def _merged(runs: list[Any], dtype: np.dtype[np.void]) -> Iterator[bytes]:
    """Parts of the whole, each a range of marks, of which all runs together hold about as many as one run."""
    parts = max(1, len(runs))
    edges = [(1 << 64) * at // parts for at in range(1, parts)]
    cuts = [[0, *(int(np.searchsorted(run["high"], np.uint64(edge))) for edge in edges), len(run)] for run in runs]
    for part in range(parts):
        pieces = [run[cut[part] : cut[part + 1]] for run, cut in zip(runs, cuts, strict=True)]
        yield _sorted(np.concatenate([np.zeros(0, dtype), *pieces])).tobytes()


def _sorted(records: Records) -> Records:
    return records[np.lexsort((records["low"], records["high"]))]
