"""A sample's way from its row to the versions that hold it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset
from shardkit.curate.split import split_dataset
from shardkit.report.lineage import trace_sample
from shardkit.spec import SplitOptions
from shardkit.store.layout import StepRecord
from shardkit.store.publish import lock, publish_omitted, publish_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"question": f"{at}?", "answer": str(at)} for at in range(10)]
    (tmp_path / "chat.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    source = {
        "kind": "jsonl", "name": "chat", "path": str(tmp_path / "chat.jsonl"), "normalizer": "question_answer",
        "licence": "cc-by-4.0",
    }  # fmt: skip
    build_dataset(
        convert_spec({"name": "chat", "sources": [source]}, BuildSpec, "test"), out=tmp_path / "data", workers=0
    )
    return tmp_path / "data"


def test_every_step_from_the_row_on_is_told(folder: Path) -> None:
    dataset = open_dataset(folder)
    found = trace_sample(dataset, dataset[3].key[:12])
    assert (found.source, found.kind, found.row) == ("chat", "jsonl", "chat.jsonl:4")
    assert found.revision == dataset.manifest.plan.sources[0].revision
    assert found.configuration == dataset.manifest.plan_digest
    assert (found.licence, found.licence_class, found.ordinal) == ("cc-by-4.0", "free", 3)
    assert found.shard == dataset.manifest.shards[0].shard.digest
    assert "normalised by question_answer" in found.text()


def test_splits_and_earlier_versions_are_told(folder: Path) -> None:
    first = open_dataset(folder).version
    split_dataset(folder, SplitOptions(ratios={"train": 0.5, "test": 0.5}))
    dataset = open_dataset(folder)
    newest, oldest = trace_sample(dataset, dataset[0].key).versions
    assert (newest.version, newest.made_by, newest.present) == (dataset.version, "split", True)
    assert newest.split in ("train", "test") and newest.options["seed"] == 0
    assert (oldest.version, oldest.made_by, oldest.split) == (first, "build", "")


def test_versions_before_an_update_are_told_too(folder: Path) -> None:
    split_dataset(folder, SplitOptions(ratios={"train": 0.5, "test": 0.5}))
    before = open_dataset(folder)
    key = before[3].key
    with (folder.parent / "chat.jsonl").open("r+b") as file:
        lines = file.read()
        file.seek(0)
        file.write(b'{"question": "new?", "answer": "yes"}\n' + lines)
    source = {
        "kind": "jsonl", "name": "chat", "path": str(folder.parent / "chat.jsonl"), "normalizer": "question_answer",
    }  # fmt: skip
    spec = convert_spec({"name": "chat", "sources": [source]}, BuildSpec, "test")
    build_dataset(spec, out=folder, workers=0, update=True)
    dataset = open_dataset(folder)
    newest, split, _ = trace_sample(dataset, key).versions
    assert (newest.version, split.version, split.made_by) == (dataset.version, before.version, "split")
    assert split.split == trace_sample(before, key).versions[0].split != ""


def test_a_sample_left_out_is_found_where_it_was(folder: Path) -> None:
    dataset = open_dataset(folder)
    key = dataset[2].key
    with lock(folder):
        step = StepRecord(name="dedup")
        changed = {"parent": dataset.version, "columns": (publish_omitted(folder, {0: [2]}),), "step": step}
        publish_version(folder, msgspec.structs.replace(dataset.manifest, **changed))
    newest, oldest = trace_sample(open_dataset(folder), key).versions
    assert (newest.made_by, newest.present, oldest.present) == ("dedup", False, True)


def test_an_unknown_key_is_an_error(folder: Path) -> None:
    with pytest.raises(SpecError, match="no sample with key ffff"):
        trace_sample(open_dataset(folder), "ffff" * 8)
