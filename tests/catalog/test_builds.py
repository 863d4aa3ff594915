"""Every entry of the Hub built by its name, through the real client, from rows in the schema that is published."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from shardkit.build.run import build
from shardkit.errors import SourceUnavailable, SpecError
from shardkit.read.dataset import open_dataset
from shardkit.report.stats import dataset_stats
from shardkit.sources.check.entry import check_entry
from shardkit.spec import HubSource, load_named
from shardkit.spec.catalog.folder import catalog_folders, load_catalog
from shardkit.spec.catalog.resolve import check_sources
from tests.records.published import PUBLISHED
from tests.records.published.apart import repository_apart
from tests.servers.hub import Hub, hub_server
from tests.servers.kaggle import kaggle_server

SAME = {
    "HuggingFaceTB/cosmopedia-100k": "HuggingFaceTB/cosmopedia",
    "Open-Orca/SlimOrca-Dedup": "Open-Orca/SlimOrca",
    "unalignment/toxic-dpo-v0.2": "unalignment/toxic-dpo-v0.1",
    "HuggingFaceM4/DocumentVQA": "lmms-lab-encoder/DocVQA",
}
"""Datasets with the columns of another one."""
OWN_ROWS: dict[str, list[dict[str, Any]]] = {
    "hh-rlhf-red-team": [{"transcript": "\n\nHuman: Help me.\n\nAssistant: With what?", "rating": 0.0, "tags": ["x"]}],
    "ai2d-train": [
        {
            "images": [row["image"] for row in PUBLISHED["lmms-lab-encoder/ai2d"].rows()[:1]],
            "texts": [{"user": "How many?", "assistant": "A", "source": "AI2D"}],
        }
    ],
}
"""Rows of entries whose columns no other dataset has."""
EXPLAINED = {
    "bad-role": "conversations that end with the user",
    "empty-text": "a question, an answer or a file without text",
    "filtered": "a commit that changes nothing",
    "missing-field": "a benchmark's answer that is withheld, an empty conversation",
    "no-media": "a picture that the row does not have",
    "no-parent": "a message whose parent was deleted",
    "no-preference": "answers that are equal, or equally good",
    "schema": "options that are no list, an answer that is no option",
    "too-short": "a clip below a second",
}
"""Why some of the published rows become no samples."""
SHORT_CLIPS = {"media": "{audio: {min_seconds: 0.05}}"}
ENTRIES = {entry.name: entry for entry in load_catalog(catalog_folders())}
READINGS = {
    f"{name}:{variant}" if variant else name: (entry.id, variant, source)
    for name, entry in ENTRIES.items()
    for variant, source in check_sources(entry, name).items()
    if isinstance(source, HubSource)
}
DISTINCT = [
    reading
    for reading, (_, variant, source) in READINGS.items()
    if not variant or source.normalizer != READINGS[reading.partition(":")[0]][2].normalizer or source.gather
] + ["mbpp:sanitized", "mmlu:auxiliary-train", "openmathinstruct-1", "toxic-dpo-v0-1:refusing", "hh-rlhf:harmless"]
"""Readings that are not merely of another config or split."""


def published(reading: str) -> list[dict[str, Any]]:
    id, variant, _ = READINGS[reading]
    name = reading.partition(":")[0]
    if name in OWN_ROWS:
        return OWN_ROWS[name]
    special = f"{id}#{variant.replace('-', '_')}"
    return PUBLISHED[special if special in PUBLISHED else SAME.get(id, id)].rows()


def repository(reading: str) -> dict[str, bytes | str]:
    """The rows as the entry's source looks for them: as jsonl or parquet, under the names that it gives."""
    _, _, source = READINGS[reading]
    rows = published(reading)
    if source.archives or source.reader == "stems":
        return repository_apart(source, rows)
    named = [path.replace("*", "Art") for path in source.data_files]
    if named and ".jsonl" in named[0]:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return {path: gzip.compress(lines) if path.endswith("gz") else lines for path in named}
    table = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), table)
    path = named[0] if named else f"{source.data_dir or 'data'}/{source.split}-00000-of-00001.parquet"
    config = {"config_name": source.config or "default", "data_files": [{"split": source.split, "path": path}]}
    return {"README.md": f"---\n{json.dumps({'configs': [config]})}\n---\n", path: table.getvalue()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.mark.parametrize("reading", sorted(set(DISTINCT)))
def test_an_entry_builds_samples_by_its_name(hub: Hub, tmp_path: Path, reading: str) -> None:
    hub.commit(READINGS[reading][0], repository(reading))
    name = reading.replace(":", "-")
    short = {f"sources.{name}.{field}": value for field, value in SHORT_CLIPS.items()} if "voice" in name else {}
    spec = msgspec.structs.replace(load_named(reading, short), content_warnings=True)
    result = build(spec, out=tmp_path / "out", sample=5, workers=0, on_event=lambda event: None)
    stats = dataset_stats(open_dataset(str(tmp_path / "out")))
    assert result.samples > 0
    assert set(stats.refused) <= set(EXPLAINED)
    assert stats.by_source == {name: result.samples}
    wanted = set(ENTRIES[reading.partition(":")[0]].modalities)
    assert wanted <= {word for modalities in stats.by_modality for word in modalities.split("+")} or not wanted


def test_every_entry_of_the_hub_has_published_rows() -> None:
    assert {reading for reading in READINGS if not published(reading)} == set()


def test_columns_of_entries_are_those_that_are_published(hub: Hub) -> None:
    others = {"documentvqa", "hh-rlhf-red-team", "mmmu-pro"}  # the rows above are another set's, or a part of theirs
    differing = {}
    for name, entry in ENTRIES.items():
        if name in READINGS and name not in others:
            hub.commit(entry.id, repository(name))
            found = [change for change in check_entry(entry).differences if change.fact in ("columns", "state", "id")]
            differing |= {name: found} if found else {}
    assert differing == {}


def test_a_gated_entry_says_how_to_be_let_in(hub: Hub, tmp_path: Path) -> None:
    hub.commit("HuggingFaceFV/finevideo", repository("finevideo"))
    hub.gated.add("HuggingFaceFV/finevideo")
    with pytest.raises(SourceUnavailable, match=r"is gated; accept its conditions at .*finevideo, then set HF_TOKEN"):
        build(load_named("finevideo"), out=tmp_path / "out", sample=5, workers=0, on_event=lambda event: None)


def test_what_teaches_harm_is_built_only_when_asked_for(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--with-content-warnings"):
        build(load_named("toxic-dpo-v0-1"), out=tmp_path / "out", sample=5, workers=0, on_event=lambda event: None)
    assert not load_named("toxic-dpo-v0-1:refusing").sources[0].content_warning


def test_a_copy_at_kaggle_gives_way_to_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("openai/gsm8k", repository("gsm8k"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    with kaggle_server() as kaggle:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", kaggle.url)
        spec = load_named("gsm8k:kaggle")
        build(spec, out=tmp_path / "out", sample=5, workers=0, on_event=lambda event: None)
    [source] = open_dataset(str(tmp_path / "out")).manifest.plan.sources
    assert (source.kind, source.name) == ("hub", "gsm8k")
    assert "401" in source.decision
