"""Sampling of what is on the Hub: every row is looked at, and only the chosen ones are fetched."""

from __future__ import annotations

import msgspec
import pytest

from shardkit.sources.sampling import Sampled, Scans
from shardkit.spec.sampling import RandomRows, StratifiedRows
from tests.servers.hub import Hub
from tests.sources.hub.repositories import NAME, REPOSITORIES, Opener


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_look_at_the_rows_finds_all_of_them_and_opens_at_each(name: str, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    opening = opened()
    source, folder, steps = opening.source, opening.folder, opening.steps()
    assert isinstance(source, Scans)
    scanned = list(source.scan(folder, ()))
    assert len(scanned) == len(steps)
    for row, step in zip(scanned, steps, strict=True):
        assert next(iter(source.rows(folder, 0, 1, row.before))) == step


@pytest.mark.parametrize("name", ["parquet", "jsonl", "csv"])
def test_a_sample_is_rows_of_the_split(name: str, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    opening = opened()
    spec = msgspec.structs.replace(opening.spec, sampling=RandomRows())
    sampled = Sampled(opening.source, spec, 0, count=3, revision=opening.pinned.revision)
    found = [step.row for step in sampled.rows(opening.folder, 0, 1, None)]
    whole = opening.rows()
    assert sorted(map(whole.index, found)) == list(range(len(whole)))
    places = [whole.index(row) for row in found[:3]]
    assert places == sorted(places) != [0, 1, 2]


def test_strata_are_looked_at_by_their_column_alone(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES["parquet"])
    opening = opened()
    source = opening.source
    assert isinstance(source, Scans)
    assert {tuple(row.fields) for row in source.scan(opening.folder, ("answer",))} == {("answer",)}
    spec = msgspec.structs.replace(opening.spec, sampling=StratifiedRows(by="answer"))
    sampled = Sampled(source, spec, 0, count=3, revision=opening.pinned.revision)
    assert len(list(sampled.rows(opening.folder, 0, 1, None))) == len(opening.rows())
