"""The column `reasons`: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.errors import ShardDamaged
from shardkit.store.manifest import encode_omitted
from shardkit.store.reasons import OMISSION, WORDS, Omissions, decode_reasons, encode_reasons

ORDINALS = st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=6)


@st.composite
def omissions(draw: st.DrawFn) -> dict[int, Omissions]:
    found = {}
    for shard in draw(st.sets(st.integers(0, 50), max_size=4)):
        ordinals = sorted(draw(ORDINALS))
        rows = np.zeros(len(ordinals), OMISSION)
        rows["ordinal"] = ordinals
        for row in rows:
            row["reason"] = draw(st.integers(0, len(WORDS) - 1))
            row["of_shard"], row["of_ordinal"] = draw(st.integers(0, 1)), draw(st.integers(0, 2**32 - 1))
            row["similarity"] = draw(st.integers(0, 1000))
        found[shard] = rows
    return found


@given(omissions())
def test_reasons_come_back(made: dict[int, Omissions]) -> None:
    data = encode_reasons(made, ["one", "two"])
    found = decode_reasons(data, "here")
    assert list(found.shards) == sorted(made)
    for shard, rows in made.items():
        assert np.array_equal(found.of_shard(shard), rows)
        for row in rows:
            reason = found.find(shard, int(row["ordinal"]))
            assert reason is not None and reason.reason == WORDS[row["reason"]]
            assert reason.similarity == row["similarity"] / 1000
            if reason.of is None:
                assert (reason.benchmark, reason.row) == (("one", "two")[row["of_shard"]], row["of_ordinal"])
            else:
                assert reason.of == (row["of_shard"], row["of_ordinal"])
    assert len(list(found.all())) == sum(map(len, made.values()))


def row(**fields: int) -> Omissions:
    rows = np.zeros(1, OMISSION)
    for name, value in fields.items():
        rows[name] = value
    return rows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_omitted({0: [1]}),
        encode_reasons({0: row(reason=9)}, []),
        encode_reasons({0: row(reason=2)}, []),
        encode_reasons({0: row(similarity=1001)}, []),
        encode_reasons({0: np.concatenate((row(ordinal=4), row(ordinal=4)))}, []),
        encode_reasons({0: row()}, [])[:-1],
        encode_reasons({0: row()}, []) + b"\0",
    ],
)
def test_anything_else_is_damage(data: bytes) -> None:
    with pytest.raises(ShardDamaged):
        decode_reasons(data, "here")
