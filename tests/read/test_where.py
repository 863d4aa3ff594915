"""Filters: their grammar, their canonical text, and what they take of a shard."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.errors import SpecError
from shardkit.read.spec import LoaderSpec
from shardkit.read.where import Clause, decide_shard, parse_where
from tests.read.made import image_sample, text_sample
from tests.store.made import stage


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("modality=text+image", "modality=image+text"),
        ("modality=text+text", "modality=text"),
        (" images >= 02 , category = b|a ", "category=a|b,images>=2"),
        ("licence!=x,licence!=x", "licence!=x"),
        ("licence=", "licence="),
        ('category="a, b"|"c|d"|"q\\"w"', 'category="a, b"|"c|d"|"q\\"w"'),
        ("modality!~video|audio", "modality!~audio|video"),
        ("split=train,source=hub:a/b", "source=hub:a/b,split=train"),
    ],
)
def test_canonical_text_is_one_for_equal_filters(text: str, canonical: str) -> None:
    assert str(parse_where(text)) == canonical
    assert parse_where(canonical) == parse_where(text)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3), st.sampled_from(["category", "licence", "source"]))
def test_any_word_can_be_written(words: list[str], field: str) -> None:
    clause = Clause(field, "=", tuple(sorted(set(words))))
    assert parse_where(str(clause)).clauses == (clause,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted FIELD OP VALUE"),
        ("images", "wanted FIELD OP VALUE"),
        ("images>=", "one whole number"),
        ("images>=2|3", "one whole number"),
        ("images>=-1", "one whole number"),
        ("images~2", "compared by"),
        ("colour=red", "no field 'colour'.*modality"),
        ("modality~imgae", "no modality 'imgae'.*image"),
        ("modality=text+sound", "no modality 'sound'.*audio"),
        ("modality~image+text", "no modality 'image.text'"),
        ("modality!~", "no modality ''"),
        ("category~a", "cannot be compared by '~'"),
        ("category<a", "cannot be compared by '<'"),
        ("category=a,", "wanted FIELD OP VALUE"),
        ('category="a"b', "behind a value"),
        ("category=" + "x" * 10_000, "characters"),
    ],
)
def test_what_is_no_filter_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_where(text)


def test_what_is_no_text_is_no_filter() -> None:
    with pytest.raises(SpecError, match="wanted an expression"):
        LoaderSpec(where=3)  # type: ignore[arg-type]


def test_manifest_decides_what_it_can(tmp_path: Path) -> None:
    texts = stage(tmp_path, [text_sample(n) for n in range(3)]).entry
    mixed = stage(tmp_path, [text_sample(1), image_sample(2)], ordinal=1).entry
    wanted = {
        "modality=text": (True, None), "modality~image": (False, None), "modality~text": (True, True),
        "modality~video": (False, False), "images=0": (True, None), "images>=1": (False, None),
        "audio_ms>0": (False, False),
        "licence=": (True, True), "licence=MIT": (False, False), "category=c": (None, None),
    }  # fmt: skip
    for text, decisions in wanted.items():
        (clause,) = parse_where(text).clauses
        assert (decide_shard(clause, texts), decide_shard(clause, mixed)) == decisions, text
