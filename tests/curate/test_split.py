"""Splits of real datasets: shares, groups on one side, stability, and what a reader of a split sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset, open_loader
from shardkit.build.progress import Event, Warned
from shardkit.curate.build import build
from shardkit.curate.derive import derive
from shardkit.curate.split import plan_split, split_dataset
from shardkit.read.listing import list_samples
from shardkit.spec import SplitOptions
from shardkit.store.layout import StepRecord
from shardkit.store.manifest import read_manifest
from shardkit.store.publish import lock, publish_omitted, publish_split, publish_version

RATIOS = {"train": 0.8, "val": 0.1, "test": 0.1}


def rows(count: int, first: int = 0, **more: Any) -> str:
    lines = (
        {"question": f"How many are {at}?", "answer": str(at), "speaker": f"speaker {at % 37}", "topic": f"t{at % 7}"}
        for at in range(first, first + count)
    )
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)


def spec_of(folder: Path, **more: Any) -> BuildSpec:
    source = {
        "kind": "jsonl", "name": "counts", "path": str(folder), "normalizer": "question_answer",
        "columns": {"category": "topic", **more.pop("columns", {})}, "partitions": more.pop("partitions", 1),
    }  # fmt: skip
    return convert_spec({"name": "counts", "sources": [source], **more}, BuildSpec, "test")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.jsonl").write_text(rows(2000))
    return folder


def splits(folder: Path, version: str | None = None) -> dict[str, str]:
    dataset = open_dataset(folder, version)
    found = {}
    for name in RATIOS:
        found |= {listed.key: name for listed in list_samples(dataset, f"split={name}")}
    return found


def test_every_sample_has_one_split_and_shares_are_met(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    before = build_dataset(spec_of(text), out=out, workers=0).version
    figures = split_dataset(out, SplitOptions(ratios=RATIOS))
    dataset = open_dataset(out)
    assert figures.samples == {"train": 1600, "val": 200, "test": 200}
    assert len(splits(out)) == len(dataset) == 2000
    assert dataset.version == figures.version != before
    assert dataset.manifest.parent == before and dataset.manifest.shards == open_dataset(out, before).manifest.shards
    for topic in range(7):
        own = [listed.key for listed in list_samples(dataset, f"category=t{topic}")]
        test = [listed.key for listed in list_samples(dataset, f"category=t{topic},split=test")]
        assert abs(len(test) / len(own) - 0.1) < 0.01


def test_a_loader_reads_one_split_only(text: Path, tmp_path: Path) -> None:
    build_dataset(spec_of(text, split={"ratios": RATIOS}), out=tmp_path / "data", workers=0)
    dataset = open_dataset(tmp_path / "data")
    loader = open_loader(dataset, batch_size=20, where="split=val")
    keys = [item.key for batch in loader for item in batch]
    assert set(keys) == {key for key, name in splits(tmp_path / "data").items() if name == "val"}


def test_a_speaker_stays_on_one_side(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    build_dataset(spec_of(text, columns={"id": "speaker"}), out=out, workers=0)
    figures = split_dataset(out, SplitOptions(ratios=RATIOS, group=("id",), by=()))
    sides: dict[str, set[str]] = {}
    by_key = splits(out)
    for item in open_dataset(out):
        sides.setdefault(item.sample.id, set()).add(by_key[item.key])
    assert figures.groups == 37 and all(len(names) == 1 for names in sides.values())
    assert {name for names in sides.values() for name in names} == set(RATIOS)


def test_near_duplicates_stay_on_one_side_with_their_speakers(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    build_dataset(spec_of(text, columns={"id": "speaker"}), out=out, workers=0)
    dataset = open_dataset(out)
    clusters = {(0, 0): "one", (0, 1): "one", (0, 2): "one"}  # three speakers become one group
    plan = plan_split(dataset, SplitOptions(ratios=RATIOS, group=("id",), by=(), near=True), clusters)
    assert plan.figures.groups == 35
    assert len(set(plan.groups.group[:3].tolist())) == 1


def test_near_duplicates_are_found_and_kept_together(tmp_path: Path) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    lines = []
    for at in range(200):
        text = " ".join(words[(at * step + step // 3) % 10] + str(at * step) for step in range(1, 40))
        lines += [text, text.upper(), text + " at the end"]
    rows = (msgspec.json.encode({"question": "What?", "answer": line}) + b"\n" for line in lines)
    (tmp_path / "near.jsonl").write_bytes(b"".join(rows))
    spec = spec_of(tmp_path / "near.jsonl", split={"ratios": RATIOS, "near": True}, columns={"category": "question"})
    build_dataset(spec, out=tmp_path / "data", workers=0)
    by_key = splits(tmp_path / "data")
    sides = [by_key[item.key] for item in open_dataset(tmp_path / "data")]
    assert len(sides) == 600 and all(len(set(sides[at : at + 3])) == 1 for at in range(0, 600, 3))
    assert set(sides) == set(RATIOS)


@pytest.mark.parametrize("partitions", [1, 3])
def test_appended_data_moves_nothing(text: Path, tmp_path: Path, partitions: int) -> None:
    out = tmp_path / "data"
    spec = spec_of(text, split={"ratios": RATIOS}, partitions=partitions)
    build_dataset(spec, out=out, workers=0)
    before = splits(out)
    (text / "b.jsonl").write_text(rows(1500, first=2000))
    build_dataset(spec, out=out, workers=0, update=True)
    after = splits(out)
    assert len(after) == 3500 and {key: after[key] for key in before} == before
    shares = [sum(name == wanted for name in after.values()) / 3500 for wanted in RATIOS]
    assert all(abs(share - wanted) < 0.01 for share, wanted in zip(shares, RATIOS.values(), strict=True))


def test_an_update_says_which_steps_are_to_be_done_again(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    build_dataset(spec_of(text), out=out, workers=0)
    split_dataset(out, SplitOptions(ratios=RATIOS))
    (text / "b.jsonl").write_text(rows(100, first=2000))
    for more, wanted in (({}, ["`shardkit split`"]), ({"split": {"ratios": RATIOS}}, [])):
        events: list[Event] = []
        build(spec_of(text, **more), out=out, workers=0, update=True, on_event=events.append)
        told = [event.message for event in events if isinstance(event, Warned)]
        assert len(told) == len(wanted) and all(step in message for step, message in zip(wanted, told, strict=True))


def test_what_was_left_out_for_a_while_has_its_split_again(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    options = SplitOptions(ratios=RATIOS)
    build_dataset(spec_of(text, split={"ratios": RATIOS}), out=out, workers=0)
    before = splits(out)
    dataset = open_dataset(out)
    with lock(out):  # as dedup does
        changed = {"parent": dataset.version, "columns": (publish_omitted(out, {0: [*range(900)]}),)}
        publish_version(out, msgspec.structs.replace(dataset.manifest, step=StepRecord(name="dedup"), **changed))
    split_dataset(out, options)
    assert len(splits(out)) == 1100
    (text / "a.jsonl").write_text(rows(60, first=5000) + rows(2000))
    build_dataset(spec_of(text), out=out, workers=0, update=True)
    split_dataset(out, options)
    after = splits(out)
    assert {key: after[key] for key in before} == before


def test_without_its_history_most_samples_keep_their_split(text: Path, tmp_path: Path) -> None:
    build_dataset(spec_of(text, split={"ratios": RATIOS}), out=tmp_path / "one", workers=0)
    (text / "b.jsonl").write_text(rows(1500, first=2000))
    build_dataset(spec_of(text, split={"ratios": RATIOS}), out=tmp_path / "two", workers=0)
    one, two = splits(tmp_path / "one"), splits(tmp_path / "two")
    assert sum(one[key] == two[key] for key in one) > 0.93 * len(one)


def test_equal_speakers_of_two_sources_are_two(tmp_path: Path) -> None:
    sources = []
    for name, first in (("here", 0), ("there", 1000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(rows(40, first))
        common = {"kind": "jsonl", "normalizer": "question_answer"}
        sources.append({**common, "name": name, "path": str(tmp_path / name / "a.jsonl")})
    build_dataset(
        convert_spec({"name": "two", "sources": sources}, BuildSpec, "test"), out=tmp_path / "data", workers=0
    )
    plan = plan_split(open_dataset(tmp_path / "data"), SplitOptions(ratios=RATIOS, group=("provenance.position",)))
    assert (plan.figures.groups, plan.figures.largest_group) == (80, 1)  # the positions are the same in both files


def test_a_version_that_came_meanwhile_is_not_passed_over(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = build_dataset(spec_of(text), out=out, workers=0).version
    split_dataset(out, SplitOptions(ratios=RATIOS))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(SpecError, match=r"went on to version .* meanwhile"):
        derive(out, first, lambda root: publish_split(root, {}), StepRecord(name="split", options={}))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_again_is_the_same_version_and_another_seed_another(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    spec = spec_of(text, split={"ratios": RATIOS})
    first = build_dataset(spec, out=out, workers=0)
    assert build_dataset(spec, out=out, workers=0) == msgspec.structs.replace(first, unchanged=True)
    assert split_dataset(out, SplitOptions(ratios=RATIOS)).version == first.version
    assert build_dataset(spec, out=tmp_path / "copy", workers=0).version == first.version
    before = splits(out)
    split_dataset(out, SplitOptions(ratios=RATIOS, seed=1))
    assert splits(out) != before and splits(out, first.version) == before


def test_killed_between_build_and_split_it_goes_on(text: Path, tmp_path: Path) -> None:
    whole = build_dataset(spec_of(text, split={"ratios": RATIOS}), out=tmp_path / "whole", workers=0)
    build_dataset(spec_of(text), out=tmp_path / "cut", workers=0)  # as a kill just before the split leaves it
    again = build_dataset(spec_of(text, split={"ratios": RATIOS}), out=tmp_path / "cut", workers=0)
    assert again.version == whole.version and not again.unchanged


def test_omitted_samples_have_no_split(text: Path, tmp_path: Path) -> None:
    (text / "b.jsonl").write_text(rows(500))  # all there already
    out = tmp_path / "data"
    limits = {"shard_samples": 700}
    result = build_dataset(spec_of(text, split={"ratios": RATIOS}, limits=limits), out=out, workers=0)
    assert result.omitted == 500 and len(splits(out)) == 2000
    _, manifest = read_manifest(open_dataset(out).store)
    assert {ref.name for ref in manifest.columns} == {"omitted", "split"}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"ratios": {"train": 0.9}}, "add up to 0.9"),
        ({"ratios": {"train": 1.5, "test": -0.5}}, "above 0"),
        ({"ratios": {"Train": 1.0}}, "lower-case"),
        ({"group": ["speaker"]}, "provenance.NAME"),
        ({"by": ["speaker"]}, "speaker"),
    ],
)
def test_impossible_options_are_named(raw: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        convert_spec(raw, SplitOptions, "test")
