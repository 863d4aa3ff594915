"""Joined pages of an index are what decoding them one by one gives, whatever their layout."""

from __future__ import annotations

import random
from itertools import accumulate

import msgspec
import pytest

from shardkit.store.index import IndexPage
from shardkit.store.joined import join_pages

DECODER = msgspec.msgpack.Decoder(IndexPage)


def page(samples: int, members: int, chance: random.Random, *, foreign: bool = False) -> bytes:
    """A page of random columns of the right lengths."""
    widths = {"keys": 16, "text_characters": 4, "audio_ms": 4, "frames": 4}
    widths |= {"offsets": 8, "sizes": 8, "hashes": 8, "pixels": 8}
    columns = {}
    for name in IndexPage.__struct_fields__[:18]:
        if name.startswith("member_") and name != "member_counts":
            width = {"member_names": 2, "member_offsets": 8, "member_sizes": 8, "member_digests": 16}[name]
            columns[name] = chance.randbytes(width * members)
        else:
            columns[name] = chance.randbytes(widths.get(name, 2) * samples)
    if foreign:
        columns |= {"names": chance.randbytes(3 * samples), "name_lengths": chance.randbytes(2 * samples)}
    return msgspec.msgpack.encode(IndexPage(**columns))


def joined(pages: list[bytes]) -> tuple[dict[str, bytes], list[int]]:
    starts = list(accumulate((len(one) for one in pages), initial=5))
    columns, samples = join_pages(memoryview(b"head:" + b"".join(pages)), starts, DECODER)
    return {name: column for name, column in columns.items() if column}, samples


def one_by_one(pages: list[bytes]) -> tuple[dict[str, bytes], list[int]]:
    decoded = [DECODER.decode(one) for one in pages]
    columns = {name: b"".join(getattr(one, name) for one in decoded) for name in IndexPage.__struct_fields__}
    return {name: column for name, column in columns.items() if column}, [one.samples for one in decoded]


def test_pages_of_any_layout_join_to_the_same_columns() -> None:
    chance = random.Random(1)
    for case in range(60):
        shapes = [(chance.choice([1, 16, 40, 5000]), chance.choice([0, 1, 3])) for _ in range(1 + case % 3)]
        pages = [
            page(samples, samples * each, chance, foreign=case % 4 == 0)
            for samples, each in shapes
            for _ in range(chance.choice([1, 3, 4, 9]))
        ]
        chance.shuffle(pages) if case % 5 == 0 else None
        assert joined(pages) == one_by_one(pages)


def test_pages_of_one_length_and_different_layouts_are_told_apart() -> None:
    """Two samples more and members of 28 bytes each less: the same number of bytes, other columns."""
    chance = random.Random(2)
    by_length: dict[int, list[tuple[int, int]]] = {}
    for samples in range(1, 60):
        for members in range(60):
            by_length.setdefault(len(page(samples, members, chance)), []).append((samples, members))
    shapes = next(shapes for shapes in by_length.values() if len(shapes) > 1)
    pages = [page(samples, members, chance) for samples, members in (shapes[0], *[shapes[1]] * 6, shapes[0])]
    assert len({len(one) for one in pages}) == 1
    assert joined(pages) == one_by_one(pages)


def test_pages_that_others_encoded_are_decoded_one_by_one() -> None:
    chance = random.Random(3)
    fields = msgspec.to_builtins(DECODER.decode(page(16, 16, chance)), builtin_types=(bytes,))
    turned = msgspec.msgpack.encode(dict(reversed(fields.items())))
    assert joined([turned] * 6) == one_by_one([turned] * 6)


def test_a_page_that_cannot_be_decoded_is_an_error() -> None:
    chance = random.Random(4)
    pages = [page(16, 16, chance) for _ in range(8)]
    bad = bytearray(pages[5])
    bad[0:3] = b"\xde\xff\xff"
    with pytest.raises(msgspec.DecodeError):
        joined([*pages[:5], bytes(bad), *pages[6:]])
