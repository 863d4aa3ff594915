"""The column `reasons` of a version: why samples were left out after the build.

Here: its encoding and strict decoding, finding one sample's reason.
Elsewhere: the column `omitted`, which readers obey (manifest.py); who finds reasons (curate); what was done, which the
version itself says (layout.StepRecord). Layout: specs/FORMAT.md.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shardkit.errors import ShardDamaged
from shardkit.store.layout import FORMAT, UNREADABLE, ColumnRef, Manifest, column_path
from shardkit.store.manifest import COLUMN_MAGIC, read_column
from shardkit.store.publish import publish_column
from shardkit.store.urls import ByteStore

REASONS = "reasons"
DUPLICATE, NEAR_DUPLICATE, CONTAMINATED = "duplicate", "near-duplicate", "contaminated"
WORDS = (DUPLICATE, NEAR_DUPLICATE, CONTAMINATED)
"""A reason's number is its position here; new ones are added at the end."""

OMISSION = np.dtype(
    [("ordinal", "<u4"), ("reason", "u1"), ("of_shard", "<u4"), ("of_ordinal", "<u4"), ("similarity", "<u2")]
)
"""One sample: 15 octets, packed. `of_shard` and `of_ordinal` name the sample that stays; of a contaminated one, the
benchmark's position and its row, from 0. `similarity` is in thousandths."""

Omissions = npt.NDArray[np.void]


class Reason(NamedTuple):
    """Why a sample was left out.

    `of` is the place of the sample that stayed, in this dataset; for `contaminated` it is None, and `benchmark` and
    `row` say what the sample holds. `similarity` is 0 to 1.
    """

    reason: str
    of: tuple[int, int] | None
    benchmark: str
    row: int
    similarity: float


class Reasons(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decoded column. `shards` ascend; `rows[i]` belong to `shards[i]`, packed as OMISSION, ordinals ascending.

    `benchmarks` are the names that rows refer to.
    """

    format: int = FORMAT
    benchmarks: tuple[str, ...]
    shards: tuple[int, ...]
    rows: tuple[bytes, ...]

    def of_shard(self, shard: int) -> Omissions:
        """What is left out of a shard, by its position in the manifest: an array of OMISSION."""
        at = bisect_left(self.shards, shard)
        there = at < len(self.shards) and self.shards[at] == shard
        return np.frombuffer(self.rows[at] if there else b"", OMISSION)

    def find(self, shard: int, ordinal: int) -> Reason | None:
        """Why a sample was left out; None where this column does not say."""
        rows = self.of_shard(shard)
        at = int(np.searchsorted(rows["ordinal"], ordinal))
        if at == len(rows) or int(rows["ordinal"][at]) != ordinal:
            return None
        return self._reason(rows[at])

    def all(self) -> Iterator[tuple[int, int, Reason]]:
        """(shard, ordinal, reason) of every sample in stored order."""
        for shard in self.shards:
            for row in self.of_shard(shard):
                yield shard, int(row["ordinal"]), self._reason(row)

    def _reason(self, row: np.void) -> Reason:
        of = int(row["of_shard"]), int(row["of_ordinal"])
        word, similarity = WORDS[int(row["reason"])], int(row["similarity"]) / 1000
        if word == CONTAMINATED:
            return Reason(word, None, self.benchmarks[of[0]], of[1], similarity)
        return Reason(word, of, "", 0, similarity)


def encode_reasons(omissions: Mapping[int, Omissions], benchmarks: Sequence[str]) -> bytes:
    """A file of the column: position of a shard in the manifest -> OMISSION rows, ordinals ascending."""
    rows = [(shard, found.astype(OMISSION).tobytes()) for shard, found in sorted(omissions.items()) if len(found)]
    column = Reasons(
        benchmarks=tuple(benchmarks),
        shards=tuple(shard for shard, _ in rows),
        rows=tuple(packed for _, packed in rows),
    )
    return COLUMN_MAGIC + msgspec.msgpack.encode(column)


def decode_reasons(data: bytes, where: str) -> Reasons:
    """The inverse. Raises ShardDamaged."""
    if not data.startswith(COLUMN_MAGIC):
        raise ShardDamaged(f"{where}: is no file of columns")
    try:
        column = msgspec.msgpack.decode(data[len(COLUMN_MAGIC) :], type=Reasons)
    except UNREADABLE as error:
        raise ShardDamaged(f"{where}: cannot be decoded: {error}") from None
    sane = column.format == FORMAT and len(column.shards) == len(column.rows)
    sane = sane and all(a < b for a, b in itertools.pairwise(column.shards)) and min(column.shards, default=0) >= 0
    sane = sane and all(_is_sound(packed, len(column.benchmarks)) for packed in column.rows)
    if not sane or COLUMN_MAGIC + msgspec.msgpack.encode(column) != data:
        raise ShardDamaged(f"{where}: is not in canonical form")
    return column


def read_reasons(store: ByteStore, manifest: Manifest) -> Reasons | None:
    """Why this version leaves samples out, where it says so; the digest is checked. Raises ShardDamaged."""
    for column in manifest.columns:
        if column.name == REASONS:
            return decode_reasons(read_column(store, column), column_path(column.file.digest))
    return None


def publish_reasons(root: Path, encoded: bytes) -> ColumnRef:
    """Store the column of a version, as encode_reasons gave it. Raises StorageFailed."""
    return publish_column(root, REASONS, encoded)


def _is_sound(packed: bytes, benchmarks: int) -> bool:
    if not packed or len(packed) % OMISSION.itemsize:
        return False
    rows = np.frombuffer(packed, OMISSION)
    ascending = bool((np.diff(rows["ordinal"].astype(np.int64)) > 0).all())
    contaminated = rows["reason"] == WORDS.index(CONTAMINATED)
    known = bool((rows["reason"] < len(WORDS)).all()) and bool((rows["of_shard"][contaminated] < benchmarks).all())
    return ascending and known and bool((rows["similarity"] <= 1000).all())
