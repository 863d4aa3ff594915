"""Generated rows: seeds, parameters, names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardkit.errors import SpecError
from shardkit.sources.table import open_source
from shardkit.spec import GeneratedSource
from tests.sources.kinds import Opened


def spec(**fields: object) -> GeneratedSource:
    wanted = {"name": "here", "generator": "notes", "count": 5, "normalizer": "question_answer", **fields}
    return GeneratedSource(**wanted)  # type: ignore[arg-type]


def test_row_does_not_depend_on_how_many_there_are(opened: Callable[..., Opened]) -> None:
    few, many = opened(spec()), opened(spec(count=50))
    assert many.rows()[:5] == few.rows()
    assert few.pinned.revision == many.pinned.revision


def test_seed_of_the_source_goes_before_that_of_the_build(opened: Callable[..., Opened]) -> None:
    zero, one = opened(spec()), opened(spec(seed=1))
    assert zero.rows() != one.rows()
    assert zero.pinned.revision != one.pinned.revision
    assert opened(spec(seed=0)).rows() == zero.rows()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"generator": "poems"}, "source here: no generator 'poems'; there are: .*notes"),
        ({"parameters": {"nonsense": 1}}, "generator notes: .*nonsense"),
    ],
)
def test_unknown_generator_or_parameter_is_refused_at_once(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        open_source(spec(**fields), 0)


def test_generator_names_its_tools(opened: Callable[..., Opened]) -> None:
    assert "synth.notes" in opened(spec()).pinned.toolchain
