"""Builds that leave out near-duplicates and rows of benchmarks, then split; benchmarks are never in train."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit import build_dataset, open_dataset
from shardkit.build.progress import Event, Warned
from shardkit.build.run import BuildResult
from shardkit.curate.split import plan_split, split_dataset
from shardkit.errors import PlanConflict, SourceUnavailable, SpecError
from shardkit.read.listing import list_samples
from shardkit.spec import BuildSpec, SplitOptions, convert_spec, load_spec
from shardkit.store import fs
from shardkit.store.faults import Faults, Setting
from shardkit.store.reasons import read_reasons
from tests.build.making import was_killed
from tests.curate.exams import CODE, IDS, SUMS, repository, rewritten
from tests.curate.making import texts
from tests.servers.hub import Hub, hub_server

RATIOS = {"train": 0.8, "test": 0.2}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = {
        IDS["gsm8k"]: repository("main", "test", SUMS),
        IDS["humaneval"]: repository("openai_humaneval", "test", CODE),
    }
    with hub_server(found) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """40 rows, of which 4 are near others and 3 hold rows of benchmarks."""
    asked = texts(33, words=40)
    asked += [f"{text} and so on" for text in asked[:4]]
    asked += [f"Please: {rewritten(SUMS[at]['question'], at)}" for at in (5, 9)] + [rewritten(CODE[4]["prompt"], 4)]
    lines = (json.dumps({"question": text, "answer": f"It is {at}."}) for at, text in enumerate(asked))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def spec_file(rows: Path, *entries: str, dedup: dict[str, Any] | None = None, **more: Any) -> Path:
    """A spec of those rows, then of entries of the catalog."""
    own = {"kind": "jsonl", "name": "own", "path": str(rows), "normalizer": "question_answer"}
    sources = [own, *({"kind": "catalog", "entry": entry} for entry in entries)]
    wanted = {"against": ["gsm8k", "humaneval"]} if dedup is None else dedup
    fields = {"limits": {"shard_samples": 12, "block_samples": 4}, "split": {"ratios": RATIOS, "near": True}, **more}
    path = rows.parent / "spec.yaml"
    path.write_text(json.dumps({"name": "cleaned", "sources": sources, "dedup": wanted, **fields}), encoding="utf-8")
    return path


def build(spec: BuildSpec, out: Path, **more: Any) -> BuildResult:
    return build_dataset(spec, out=out, workers=0, **more)


def splits(folder: Path) -> dict[str, Counter[str]]:
    """Split -> how many of its samples each source has."""
    dataset = open_dataset(folder)
    names = (*RATIOS, "held_out")
    return {name: Counter(row.source for row in list_samples(dataset, f"split={name}")) for name in names}


def test_a_build_leaves_out_what_it_is_told_and_splits_the_rest(hub: Hub, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = build(load_spec(spec_file(rows)), out)
    assert (result.samples, result.omitted) == (33, 7)
    dataset = open_dataset(out)
    assert dataset.version == result.version and dataset.manifest.step is not None
    assert dataset.manifest.step.name == "split"
    reasons = read_reasons(dataset.store, dataset.manifest)
    assert reasons is not None
    found = Counter((one.reason, one.benchmark) for _, _, one in reasons.all())
    assert sorted(found.values()) == [1, 2, 4]
    assert sum(sum(counts.values()) for counts in splits(out).values()) == 33
    asked, had = len(hub.requests), sorted(out.rglob("*"))
    again = build(load_spec(spec_file(rows)), out)
    assert again.unchanged and (again.version, again.samples, again.omitted) == (result.version, 33, 7)
    assert len(hub.requests) == asked and sorted(out.rglob("*")) == had


def test_the_version_is_the_same_wherever_it_is_built(hub: Hub, rows: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file(rows))
    first = build(spec, tmp_path / "one").version
    assert build_dataset(spec, out=tmp_path / "two", workers=2).version == first


def test_an_update_looks_at_the_benchmarks_anew(hub: Hub, rows: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file(rows, dedup={"compare": [], "against": ["gsm8k"]}))
    assert build(spec, tmp_path / "out").omitted == 2
    more = [*SUMS, {"question": json.loads(rows.read_text().splitlines()[7])["question"], "answer": "#### 7"}]
    hub.commit(IDS["gsm8k"], repository("main", "test", more))
    assert build(spec, tmp_path / "out").unchanged
    updated = build(spec, tmp_path / "out", update=True)
    assert updated.omitted == 3 and build(spec, tmp_path / "out", update=True).version == updated.version


def test_where_nothing_is_found_the_version_says_what_was_looked_for(hub: Hub, rows: Path, tmp_path: Path) -> None:
    rows.write_text("\n".join(rows.read_text().splitlines()[:20]) + "\n")
    spec = load_spec(spec_file(rows, split=None))
    result = build(spec, tmp_path / "out")
    step = open_dataset(tmp_path / "out").manifest.step
    assert result.omitted == 0 and step is not None
    assert [one["revision"] for one in step.options["against"]] == [
        hub.head(IDS[one]) for one in ("gsm8k", "humaneval")
    ]
    assert build(spec, tmp_path / "out").unchanged


def forked(spec: BuildSpec, out: Path, setting: Setting) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            fs.observe(Faults(setting))
            build(spec, out)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def test_killed_anywhere_it_goes_on_to_the_same_version(hub: Hub, rows: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file(rows))
    counter = Faults()
    before = fs.observe(counter)
    try:
        wanted = build(spec, tmp_path / "whole").version
    finally:
        fs.observe(before)
    head, moved = repository("main", "test", SUMS), repository("main", "test", SUMS[:3])
    late = 5 * counter.calls // 8  # the lanes are complete
    for at in (*range(3, late, 30), *range(late, counter.calls + 1, 10)):
        out = tmp_path / f"cut-{at}"
        assert was_killed(forked(spec, out, Setting(fault="kill", at=at)))
        if len([*out.glob(".build/benchmarks/*/benchmark.json")]) == 2:
            hub.commit(IDS["gsm8k"], moved)  # what was pinned is what counts
        assert build(spec, out).version == wanted
        hub.commit(IDS["gsm8k"], head)
    assert open_dataset(out).verify().damages == ()


def test_a_benchmark_that_is_not_to_be_had_is_told_before_anything_is_built(
    hub: Hub, rows: Path, tmp_path: Path
) -> None:
    hub.gated.add(IDS["gsm8k"])
    with pytest.raises(SourceUnavailable, match="is gated"):
        build(load_spec(spec_file(rows)), tmp_path / "out")
    assert not (tmp_path / "out" / ".build" / "plan.json").exists()
    dedup = {"against": ["gsm8k", "humaneval"], "skip_unreachable": True}
    events: list[Event] = []
    spec = load_spec(spec_file(rows, dedup=dedup, split=None))
    result = build(spec, tmp_path / "out", on_event=events.append)
    told = [event.message for event in events if isinstance(event, Warned)]
    assert len(told) == 1 and told[0].startswith("nothing is compared with the benchmark gsm8k: ")
    step = open_dataset(tmp_path / "out").manifest.step
    assert step is not None and [one["name"] for one in step.options["unreachable"]] == ["gsm8k"]
    hub.gated.clear()
    assert build(spec, tmp_path / "out").version == result.version
    assert build(spec, tmp_path / "out", update=True).omitted == result.omitted + 2


def test_benchmarks_among_the_sources_are_never_in_train(hub: Hub, rows: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file(rows, "gsm8k", "humaneval"))
    assert [source.held_out for source in spec.sources] == [False, True, True]
    build(spec, tmp_path / "out")
    found = splits(tmp_path / "out")
    assert set(found["train"]) == set(found["test"]) == {"own"} and found["train"]["own"] == 26
    held_out = found["held_out"]
    assert set(held_out) == {"gsm8k", "humaneval"} and sum(held_out.values()) > 35
    counted = plan_split(open_dataset(tmp_path / "out"), SplitOptions(ratios=RATIOS)).figures
    assert counted.held_out == sum(held_out.values()) and "beside the shares" in counted.text(RATIOS)
    assert sum(counted.samples.values()) == 33


def test_of_a_copy_of_a_benchmarks_row_the_benchmarks_own_stays(hub: Hub, rows: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file(rows, "gsm8k", dedup={"compare": ["text"]}))
    first = build(spec, tmp_path / "first")  # what the normaliser makes of the rows, to copy them
    samples = [item.sample for item in open_dataset(tmp_path / "first") if item.sample.source == "gsm8k"]
    same, near = samples[5].messages, samples[8].messages
    lines = [{"question": same[0].content, "answer": same[1].content}]
    lines += [{"question": near[0].content.upper(), "answer": near[1].content + " Well."}]
    rows.write_text("\n".join(map(json.dumps, lines)) + "\n" + rows.read_text(), encoding="utf-8")
    result = build(spec, tmp_path / "second")
    assert result.omitted == first.omitted + 2
    found = splits(tmp_path / "second")
    assert found["held_out"] == Counter(gsm8k=len(samples)) and not {"gsm8k"} & {*found["train"], *found["test"]}
    by_hand = split_dataset(tmp_path / "second", SplitOptions(ratios=RATIOS, seed=3))
    assert by_hand.held_out == len(samples)


def test_what_belongs_with_a_held_out_sample_is_held_out_too(hub: Hub, rows: Path, tmp_path: Path) -> None:
    rows.write_text("\n".join(rows.read_text().splitlines()[:20]) + "\n")
    build(load_spec(spec_file(rows, "gsm8k", dedup={"compare": ["text"]}, split=None)), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    own, exam = (next(row for row in list_samples(dataset, f"source={name}")) for name in ("own", "gsm8k"))
    clusters = {(row.shard, row.ordinal): "one" for row in (own, exam)}
    plan = plan_split(dataset, SplitOptions(ratios=RATIOS), clusters)
    assert plan.figures.held_out == 1 + sum(1 for _ in list_samples(dataset, "source=gsm8k"))


@pytest.mark.parametrize("first", [False, True])
def test_a_source_that_becomes_held_out_keeps_its_lanes(rows: Path, tmp_path: Path, first: bool) -> None:
    def spec(held_out: bool) -> BuildSpec:
        own = {"kind": "jsonl", "name": "own", "path": str(rows), "normalizer": "question_answer"}
        raw = {"name": "x", "sources": [{**own, "held_out": held_out}], "split": {"ratios": RATIOS}}
        return convert_spec(raw, BuildSpec, "test")

    build(spec(first), tmp_path / "out")
    shards = open_dataset(tmp_path / "out").manifest.shards
    with pytest.raises(PlanConflict, match="held out"):
        build(spec(not first), tmp_path / "out")
    build(spec(not first), tmp_path / "out", update=True)
    assert open_dataset(tmp_path / "out").manifest.shards == shards
    found = splits(tmp_path / "out")
    assert found["held_out"] == (Counter() if first else Counter(own=40))
    assert sum(found["train"].values()) == (32 if first else 0)


def test_no_share_is_called_held_out() -> None:
    with pytest.raises(SpecError, match="has no share"):
        convert_spec({"ratios": {"train": 0.5, "held_out": 0.5}}, SplitOptions, "test")
