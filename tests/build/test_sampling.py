"""Samples in a build: exact in spite of refused rows, the same after any kill, with any number of lanes and workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardkit.build.run import build
from shardkit.errors import SourceChanged
from shardkit.read.dataset import open_dataset
from shardkit.spec import BuildSpec
from shardkit.store.faults import Setting
from tests.build.making import build_with_faults, questions, spec_of, was_killed

RANDOM = {"method": "random"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_sample_is_the_same_with_any_lanes_and_workers(tmp_path: Path, partitions: int, workers: int) -> None:
    spec = sampled(tmp_path, RANDOM, limit=25, partitions=partitions)
    build(spec, out=tmp_path / "out", workers=workers)
    found = numbers(tmp_path / "out")
    assert found == sorted(found)
    assert found == numbers_of(sampled(tmp_path, RANDOM, limit=25), tmp_path / "one")


def test_refused_rows_and_duplicates_are_replaced(tmp_path: Path) -> None:
    """Nine rows of ten are refused or repeat: the first list of spares does not suffice."""
    lines = [question(at) if at % 10 == 0 else question(0) if at % 10 == 1 else "not json" for at in range(2000)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = spec_of(questions(tmp_path / "q.jsonl", sampling=RANDOM, limit=150), limits={"shard_samples": 1000})
    assert build(spec, out=tmp_path / "out", workers=0).samples == 150
    assert len(set(numbers(tmp_path / "out"))) == 150
    everything = spec_of(questions(tmp_path / "q.jsonl", sampling=RANDOM, limit=500), limits={"shard_samples": 1000})
    assert build(everything, out=tmp_path / "all", workers=0).samples == 200, "all that there are"


def test_killed_at_any_call_the_sample_is_the_same(tmp_path: Path) -> None:
    spec = sampled(tmp_path, {"method": "stratified", "by": "kind", "rank": ["likes"]}, limit=14, partitions=2)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    killed = 0
    for call in range(4, 400, 9):
        out = tmp_path / f"killed-{call}"
        if not was_killed(build_with_faults(spec, out, Setting(fault="kill", at=call))):
            break
        killed += 1
        assert build(spec, out=out, workers=0).version == wanted
    assert killed > 10


def test_all_rows_are_wanted_then_nothing_is_chosen(tmp_path: Path) -> None:
    whole = numbers_of(sampled(tmp_path, RANDOM), tmp_path / "whole")
    assert whole == list(range(200))
    assert not list((tmp_path / "whole").rglob("chosen-*"))


def test_a_source_that_changed_between_two_runs_fails_its_lane(tmp_path: Path) -> None:
    spec = sampled(tmp_path, RANDOM, limit=50)
    assert was_killed(build_with_faults(spec, tmp_path / "out", Setting(fault="kill", at=150)))
    text = (tmp_path / "q.jsonl").read_text(encoding="utf-8")
    (tmp_path / "q.jsonl").write_text(text.replace('"7"', '"8"'), encoding="utf-8")
    with pytest.raises(Exception, match="changed since planned") as caught:
        build(spec, out=tmp_path / "out", workers=0)
    assert caught.type is not SourceChanged, "the lane fails, and the build says that it is partly done"


def test_an_update_to_another_sample_makes_another_version(tmp_path: Path) -> None:
    first = build(sampled(tmp_path, RANDOM, limit=10), out=tmp_path / "out", workers=0)
    spec = sampled(tmp_path, {"method": "random", "seed": 5}, limit=10)
    assert build(spec, out=tmp_path / "out", workers=0, update=True).version != first.version
    assert build(spec, out=tmp_path / "fresh", workers=0).samples == 10
    assert numbers(tmp_path / "out") == numbers(tmp_path / "fresh")


def sampled(folder: Path, sampling: dict[str, Any], **fields: Any) -> BuildSpec:
    """200 numbered questions of two kinds."""
    path = folder / "q.jsonl"
    if not path.exists():
        path.write_text("".join(question(at) + "\n" for at in range(200)), encoding="utf-8")
    return spec_of(questions(path, sampling=sampling, **fields))


def question(number: int) -> str:
    return json.dumps(
        {"question": f"Number {number}?", "answer": str(number), "kind": "ab"[number % 2], "likes": number % 17}
    )


def numbers_of(spec: BuildSpec, out: Path) -> list[int]:
    build(spec, out=out, workers=0)
    return numbers(out)


def numbers(out: Path) -> list[int]:
    return [int(item.sample.messages[1].content) for item in open_dataset(str(out))]
