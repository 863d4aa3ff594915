"""Every benchmark of the catalog as what data is compared with, and held out where it is a source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkit.curate.benchmarks import open_benchmarks, read_rows
from shardkit.records.normalize.texts import LEFT_OUT
from shardkit.spec import BenchmarkSource, load_spec
from shardkit.spec.catalog.benchmarks import find_benchmarks
from shardkit.spec.catalog.folder import catalog_folders, load_catalog, packaged_folder
from shardkit.spec.catalog.resolve import check_sources
from tests.catalog.test_builds import ENTRIES, published, repository
from tests.servers.hub import Hub, hub_server

BENCHMARKS = {
    one.name: one for one in find_benchmarks(("benchmarks",), catalog_folders()) if isinstance(one, BenchmarkSource)
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_row_of_a_benchmark_gives_its_texts_and_no_others(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.commit(ENTRIES[name].id, repository(name))
    [benchmark] = open_benchmarks([BENCHMARKS[name]], tmp_path).found
    assert benchmark.origin == {"entry": name, "dataset": ENTRIES[name].id, "revision": hub.head(ENTRIES[name].id)}
    rows = list(read_rows(benchmark))
    assert len(rows) == len(published(name)) and any(rows)
    said = " ".join(text for row in rows for text in row)
    assert LEFT_OUT not in said and "Answer with the letter" not in said
    question = BENCHMARKS[name].source.columns.get("question", "question")
    for row, texts in zip(published(name), rows, strict=True):
        if isinstance(row.get(question), str) and "<image" not in row[question] and row[question].strip():
            assert " ".join(row[question].split()) in " ".join(" ".join(texts).split())


def test_what_is_pinned_is_found_again_without_asking(hub: Hub, tmp_path: Path) -> None:
    hub.commit(ENTRIES["gsm8k"].id, repository("gsm8k"))
    first = open_benchmarks(["gsm8k"], tmp_path)
    asked = len(hub.requests)
    assert open_benchmarks(["gsm8k"], tmp_path) == first and len(hub.requests) == asked
    hub.commit(ENTRIES["gsm8k"].id, {"README.md": "nothing"})
    assert list(read_rows(first.found[0]))


def test_splits_that_are_held_out_are_held_out_as_sources() -> None:
    for entry in load_catalog(catalog_folders()):
        for variant, source in check_sources(entry, entry.name).items():
            split = getattr(source, "split", (entry.source or {}).get("split"))
            assert source.held_out == (split in entry.held_out), (entry.name, variant)
            assert not source.held_out or source.fallback is None or source.fallback.held_out


def test_what_stands_for_a_held_out_source_is_held_out(tmp_path: Path) -> None:
    own = {"kind": "jsonl", "name": "copy", "path": "copy.jsonl", "normalizer": "math"}
    sources = [{"kind": "catalog", "entry": "gsm8k", "fallback": own}, {**own, "name": "mine"}]
    (tmp_path / "spec.yaml").write_text(json.dumps({"name": "x", "sources": sources}))
    exam, mine = load_spec(tmp_path / "spec.yaml").sources
    assert exam.held_out and exam.fallback is not None and exam.fallback.held_out and not mine.held_out


def test_the_multimodal_mix_holds_its_benchmarks_out() -> None:
    spec = load_spec(packaged_folder("mixes") / "multimodal-1m.yaml")
    held_out = {source.name for source in spec.sources if source.held_out}
    assert held_out == {source.name for source in spec.sources if source.domain == "benchmark"}
    assert len(held_out) == 10 and spec.split is not None
