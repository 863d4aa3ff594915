"""Entries of the catalog built from a Hub that holds rows in their published schemas where the entries say they lie.

Here: all of them in one build.
Elsewhere: those whose media lie apart from the rows, and each alone (tests/catalog/test_builds.py).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from shardkit.build.run import build
from shardkit.read.dataset import open_dataset
from shardkit.spec import load_spec
from shardkit.spec.catalog.entry import Entry
from shardkit.spec.catalog.folder import catalog_folders, load_catalog
from tests.records.published import PUBLISHED
from tests.records.published.apart import is_apart
from tests.servers.hub import TOKEN, Hub, hub_server
from tests.store.buckets import use_environment

ENTRIES = {
    entry.name: entry
    for entry in load_catalog(catalog_folders())
    if entry.source is not None
    and entry.kind == "hub"
    and entry.id in PUBLISHED
    and not is_apart(entry.source)
    and {*entry.columns} <= {*PUBLISHED[entry.id].rows()[0]}  # a repository may hold files of several schemas
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({}) as server:
        use_environment(monkeypatch, HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)
        yield server


def commit(hub: Hub, entry: Entry) -> None:
    """A repository with the entry's configuration and split, its files as they are published: parquet or jsonl."""
    source = entry.source or {}
    published = PUBLISHED[entry.id]
    patterns = source.get("data_files") or ()
    path = patterns[0].replace("*", "a") if patterns else f"data/part.{published.suffix}"
    split = {"split": source.get("split", "train"), "path": path}
    card = {"configs": [{"config_name": source.get("config", "default"), "data_files": [split]}]}
    hub.commit(
        entry.id, {path: content(published.rows(), path), "README.md": f"---\n{json.dumps(card)}\n---\n# text\n"}
    )
    if entry.gated:
        hub.gated.add(entry.id)


def content(rows: list[dict[str, Any]], path: str) -> bytes:
    if path.endswith(".parquet"):
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
        return out.getvalue()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_every_entry_with_published_rows_gives_samples(hub: Hub, tmp_path: Path) -> None:
    assert len(ENTRIES) > 30
    for entry in ENTRIES.values():
        commit(hub, entry)
    short = {"media": {"audio": {"min_seconds": 0.1}}}  # the sounds of the tests are
    sources = [
        {"kind": "catalog", "entry": name, **(short if entry.group == "audio" else {})}
        for name, entry in ENTRIES.items()
    ]
    raw = {"name": "all", "sources": sources, "duplicates": "keep", "content_warnings": True}
    (tmp_path / "all.yaml").write_text(json.dumps(raw))
    result = build(load_spec(tmp_path / "all.yaml"), out=tmp_path / "out", sample=5, workers=0)
    dataset = open_dataset(result.dataset)
    counts = dataset.manifest.totals.by_source
    assert {name for name in ENTRIES if not counts.get(name)} == set()
    for source in dataset.manifest.plan.sources:
        assert source.revision == hub.head(ENTRIES[source.name].id)
    assert not dataset.verify().damages
