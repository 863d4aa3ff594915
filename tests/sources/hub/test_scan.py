"""Looking at the rows of a split without reading them: what sampling chooses from, and fetching what it chose."""

from __future__ import annotations

import json

import pytest

from shardkit.sources.base import BadRow
from shardkit.sources.sampling import ReadsOn, Scans
from tests.servers.hub import Hub
from tests.sources.hub.repositories import NAME, REPOSITORIES, Opener, parquet


@pytest.mark.parametrize("name", REPOSITORIES)
def test_scan_tells_where_every_row_begins(name: str, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    here = opened()
    assert isinstance(here.source, Scans)
    assert isinstance(here.source, ReadsOn)
    steps = here.steps()
    scanned = list(here.source.scan(here.folder, ("question",)))
    assert len(scanned) == len(steps)
    for at, (found, step) in enumerate(zip(scanned, steps, strict=True)):
        assert not isinstance(step.row, BadRow)
        assert found.fields["question"] == step.row.fields["question"]
        if at % 5 == 0:
            before = None if found.before is None else json.loads(json.dumps(found.before))
            assert here.steps(cursor=before)[0].row == step.row
            if before is not None:
                assert isinstance(here.source.reads_on(here.folder, steps[0].cursor, before), bool)
    assert len(list(here.source.scan(here.folder, ()))) == len(steps)


def test_scan_fetches_the_wanted_columns_alone(hub: Hub, opened: Opener) -> None:
    rows = [{"question": f"{at}", "answer": "yes" * 3000, "label": at % 3} for at in range(400)]
    data = parquet(rows, group=100, compression="none", use_dictionary=False)
    hub.commit(NAME, {"train.parquet": data})
    here = opened()
    assert isinstance(here.source, Scans)
    hub.cdn.sent_bytes = 0
    assert [found.fields["label"] for found in here.source.scan(here.folder, ("label",))] == [
        at % 3 for at in range(400)
    ]
    assert hub.cdn.sent_bytes < len(data) / 5
