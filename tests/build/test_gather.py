"""Builds of rows that belong together: what is counted, and that one cut short ends as one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardkit import open_dataset
from shardkit.build.run import build, dry_run
from shardkit.build.status import read_status
from shardkit.errors import SpecError
from shardkit.report.stats import dataset_stats
from shardkit.spec import BuildSpec
from shardkit.store.faults import Setting
from tests.build.making import build_with_faults, spec_of, was_killed
from tests.records.published import published_rows


def rated(folder: Path, **fields: Any) -> BuildSpec:
    """Prompts with three rated answers each, every fourth of them in another language, in small shards."""
    rows = [
        {"prompt": f"prompt {prompt}", "response": f"answer {prompt}.{score}", "helpfulness": score, "lang": language}
        for prompt in range(24)
        for score in (2, 0, 4)
        for language in ["de" if prompt % 4 == 0 else "en"]
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "kind": "jsonl",
        "name": "rated",
        "path": str(folder / "rows.jsonl"),
        "normalizer": "rated_responses",
        "columns": {"score": "helpfulness"},
        "gather": {"by": "prompt"},
        "where": {"lang": "en"},
        **fields,
    }
    return spec_of(source, limits={"shard_samples": 4})


def trees(folder: Path) -> BuildSpec:
    """Many trees of the published shape, of several conversations each."""
    rows = [
        {**row, "message_tree_id": f"{number}", "text": f"{row['text']} of {number}"}
        for number in range(7)
        for row in published_rows("OpenAssistant/oasst2")
        if row["message_id"].startswith("a")
    ]
    (folder / "trees.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "kind": "jsonl",
        "name": "trees",
        "path": str(folder / "trees.jsonl"),
        "normalizer": "tree",
        "gather": {"tree": True},
    }
    return spec_of(source, limits={"shard_samples": 3})


def test_rows_become_samples_and_are_counted(tmp_path: Path) -> None:
    result = build(rated(tmp_path), out=tmp_path / "out", workers=0)
    assert (result.samples, result.dead_letters) == (18, 0)
    [lane] = read_status(tmp_path / "out").lanes
    assert (lane.rows, lane.filtered, lane.refused) == (18 + 18, 18, {})
    assert dataset_stats(open_dataset(str(tmp_path / "out"))).filtered == 18
    preferences = [item.sample.preference for item in open_dataset(str(tmp_path / "out"))]
    assert {(one.chosen[-1], one.rejected[-1]) for one in preferences if one} == {("4", "0")}


def test_a_source_that_passes_all_its_rows_over_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no row became a sample \(passed over: 72\)"):
        build(rated(tmp_path, where={"lang": "fr"}), out=tmp_path / "out", workers=0)


def test_a_dry_run_measures_what_rows_become(tmp_path: Path) -> None:
    [planned] = dry_run(rated(tmp_path), out=tmp_path / "out").sources
    built = build(rated(tmp_path), out=tmp_path / "out", workers=0)
    assert planned.samples is not None and planned.bytes is not None
    assert built.samples / 2 < planned.samples < built.samples * 2


def test_a_limit_counts_what_rows_become(tmp_path: Path) -> None:
    assert build(rated(tmp_path, limit=5), out=tmp_path / "out", workers=0).samples == 5
    assert build(trees(tmp_path), out=tmp_path / "trees", workers=0).samples == 14


def test_killed_at_every_link_gives_the_same_version(tmp_path: Path) -> None:
    """Three samples a shard and two a tree: shards end in the middle of what one tree becomes."""
    spec = trees(tmp_path)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    for at in range(1, 1000):
        out = tmp_path / f"killed-{at}"
        if not was_killed(build_with_faults(spec, out, Setting(fault="kill", at=at, kinds=("link",)))):
            break
        assert build(spec, out=out, workers=0).version == wanted, f"killed at link {at}"
    assert at > 10
    assert build(spec, out=tmp_path / "spawned", workers=1).version == wanted
