"""Mixes: quotas by ratio and group, budgets in bytes, shortages and who makes up for them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit.build.plan import read_plan
from shardkit.build.progress import Event, Short
from shardkit.build.quotas import bounded, fallbacks, left_out, source_bounds, sources_taken
from shardkit.build.run import build
from shardkit.build.status import read_status
from shardkit.errors import PlanConflict, SpecError
from shardkit.plain import parse_size
from shardkit.read.dataset import open_dataset
from shardkit.spec import BuildSpec, load_spec
from shardkit.store.faults import Setting
from tests.build.making import build_with_faults, notes, questions, spec_of, was_killed, write_questions

MIXES = Path(__file__).resolve().parents[2] / "specs" / "mixes"


def test_total_becomes_quotas_by_largest_remainder_within_groups(tmp_path: Path) -> None:
    sources = [
        notes("a", group="real", ratio=0.5),
        notes("b", group="real", ratio=0.25),
        notes("c", group="made"),
        notes("d", group="made"),
    ]
    spec = spec_of(*sources, total=101, groups={"real": 0.3, "made": 0.7})
    build(spec, out=tmp_path / "out", workers=0)
    assert by_source(tmp_path / "out") == {"a": 20, "b": 10, "c": 36, "d": 35}


def test_total_without_ratios_is_shared_equally(tmp_path: Path) -> None:
    spec = bounded(spec_of(notes("a"), notes("b")), total=7)
    build(spec, out=tmp_path / "out", workers=0)
    assert by_source(tmp_path / "out") == {"a": 4, "b": 3}


def test_sources_with_a_content_warning_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    warned = notes("bad", ratio=0.2, content_warning="Harmful answers.")
    spec = spec_of(notes("a", ratio=0.6), warned, notes("b", ratio=0.2), total=40)
    build(spec, out=tmp_path / "out", workers=0)
    assert by_source(tmp_path / "out") == {"a": 30, "b": 10}
    told = "bad is left out for its content: Harmful answers; take it with --with-content-warnings"
    assert read_status(tmp_path / "out").decisions == (told,)
    assert open_dataset(str(tmp_path / "out")).manifest.plan.left_out == (told,)
    build(bounded(spec, content_warnings=True), out=tmp_path / "all", workers=0)
    assert by_source(tmp_path / "all") == {"a": 24, "bad": 8, "b": 8}
    with pytest.raises(SpecError, match="every source has a content warning"):
        build(spec_of(warned), out=tmp_path / "none", workers=0)


def test_what_has_a_content_warning_stands_in_for_nothing_unless_asked_for(tmp_path: Path) -> None:
    warned = notes("bad", content_warning="Harmful answers.", fallback=notes("good"))
    absent = {"kind": "git", "name": "gone", "url": "unused", "normalizer": "repository_file", "fallback": warned}
    spec = spec_of(absent, total=4)
    taken = [fallback.name for source in sources_taken(spec) for fallback in fallbacks(source)]
    assert taken == ["good"] and left_out(spec)[0].startswith("bad is left out for its content: Harmful answers")
    asked = bounded(spec, content_warnings=True)
    assert [fallback.name for fallback in fallbacks(sources_taken(asked)[0])] == ["bad", "good"] and not left_out(asked)


def test_a_shortage_is_told_and_lent_to_nobody_unless_asked(tmp_path: Path) -> None:
    events: list[Event] = []
    spec = spec_of(few(tmp_path, 6, ratio=0.5), notes("a", ratio=0.5), total=40)
    result = build(spec, out=tmp_path / "out", workers=0, on_event=events.append)
    assert (result.samples, result.shortages, result.missing) == (26, {"few": 14}, 14)
    assert [one for one in events if isinstance(one, Short)] == [Short(source="few", quota=20, samples=6, missing=14)]
    assert [one.missing for one in read_status(tmp_path / "out").shortages] == [14]
    again = build(spec, out=tmp_path / "out", workers=0)
    assert msgspec.structs.replace(again, unchanged=False) == result


@pytest.mark.parametrize("sampling", ["first", "random"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_lacking_is_borrowed_from_those_that_have_more(tmp_path: Path, workers: int, sampling: str) -> None:
    spec = bounded(borrowing(tmp_path, sampling), borrow=True)
    result = build(spec, out=tmp_path / "out", workers=workers)
    assert by_source(tmp_path / "out") == {"few": 6, "some": 22, "limited": 12, "a": 60}
    assert (result.samples, result.missing) == (100, 0)
    assert result.shortages == {"few": 24}
    assert build(spec, out=tmp_path / "out", workers=0).unchanged
    assert build(spec, out=tmp_path / "out", workers=0, update=True).version == result.version
    with pytest.raises(PlanConflict, match="borrow"):
        build(borrowing(tmp_path, sampling), out=tmp_path / "out", workers=0)


def test_lent_samples_are_the_next_ones_of_the_source(tmp_path: Path) -> None:
    """As if the quota had been larger from the beginning."""
    spec = bounded(borrowing(tmp_path, "first"), borrow=True)
    build(spec, out=tmp_path / "out", workers=0)
    plain = spec_of(notes("a", 400, limit=60))
    build(plain, out=tmp_path / "plain", workers=0)
    lent = [item.key for item in open_dataset(str(tmp_path / "out")) if item.sample.source == "a"]
    assert lent == [item.key for item in open_dataset(str(tmp_path / "plain"))]


@pytest.mark.parametrize("sampling", ["first", "random"])
def test_killed_anywhere_a_build_that_borrows_ends_the_same(tmp_path: Path, sampling: str) -> None:
    spec = bounded(borrowing(tmp_path, sampling), borrow=True)
    wanted = build(spec, out=tmp_path / "wanted", workers=0).version
    killed = 0
    for call in range(60, 1000, 97):
        out = tmp_path / f"killed-{call}"
        if not was_killed(build_with_faults(spec, out, Setting(fault="kill", at=call))):
            break
        killed += 1
        again = build_with_faults(spec, out, Setting(fault="kill", at=call // 2))
        assert build(spec, out=out, workers=0).version == wanted, f"killed at {call}, {again}"
    assert killed > 3


def test_all_that_there_is_may_not_suffice(tmp_path: Path) -> None:
    spec = spec_of(few(tmp_path, 6, ratio=0.5), notes("a", 30, ratio=0.5), total=100, borrow=True)
    result = build(spec, out=tmp_path / "out", workers=0)
    assert (result.samples, result.missing) == (36, 64)
    plan = read_plan(tmp_path / "out")
    assert plan is not None
    assert not any(lane.after for lane in plan.plan.lanes), "nobody met a quota, so nobody lends"


def test_a_budget_ends_lanes_by_bytes_whatever_the_workers(tmp_path: Path) -> None:
    spec = spec_of(notes("a", 400, ratio=0.75, partitions=2), notes("b", 400, ratio=0.25), limits={"shard_samples": 7})
    spec = bounded(spec, budget_bytes=200_000)
    result = build(spec, out=tmp_path / "out", workers=0)
    sizes: Counter[str] = Counter()
    for entry in open_dataset(str(tmp_path / "out")).manifest.shards:
        sizes[entry.source] += entry.tar_bytes
    assert 150_000 <= sizes["a"] < 150_000 + 2 * 5000
    assert 50_000 <= sizes["b"] < 50_000 + 5000
    assert (result.shortages, result.missing) == ({}, 0)
    assert read_status(tmp_path / "out").at_budget == dict(sizes)
    assert build(spec, out=tmp_path / "other", workers=2).version == result.version
    for call in (70, 131, 180):
        out = tmp_path / f"killed-{call}"
        assert was_killed(build_with_faults(spec, out, Setting(fault="kill", at=call)))
        assert build(spec, out=out, workers=0).version == result.version


def test_a_source_has_a_budget_of_its_own(tmp_path: Path) -> None:
    spec = spec_of(notes("a", 400, budget_bytes=20_000, limit=300), notes("b", 20))
    build(spec, out=tmp_path / "out", workers=0)
    assert by_source(tmp_path / "out")["b"] == 20
    assert by_source(tmp_path / "out")["a"] < 20


def test_each_makes_a_source_of_every_value(tmp_path: Path) -> None:
    for language in ("py", "js"):
        write_questions(tmp_path / f"{language}.jsonl", range(9))
    raw: dict[str, Any] = {
        "name": "tiny",
        "variables": {"root": None},
        "total": 12,
        "sources": [
            {**questions(Path("${root}/${lang}.jsonl"), "q", ratio=0.5), "each": {"lang": ["py", "js"]}},
            {
                **notes("n", 50, ratio=0.5),
                "each": {"language": {"en": {"ratio": 0.75, "seed": 1}, "de": {"ratio": 0.25}}},
            },
        ],
    }
    (tmp_path / "spec.yaml").write_text(json.dumps(raw), encoding="utf-8")
    spec = load_spec(tmp_path / "spec.yaml", {"root": str(tmp_path), "sources.n.sample": "3"})
    assert [(source.name, source.ratio) for source in spec.sources] == [
        ("q-py", 0.25), ("q-js", 0.25), ("n-en", 0.375), ("n-de", 0.125),
    ]  # fmt: skip
    assert [getattr(source, "path", "") for source in spec.sources[:2]] == [
        f"{tmp_path}/py.jsonl", f"{tmp_path}/js.jsonl",
    ]  # fmt: skip
    assert [(source.language, getattr(source, "seed", 0), source.sample) for source in spec.sources[2:]] == [
        ("en", 1, 3), ("de", sum(b"n"), 3),
    ]  # fmt: skip
    build(spec, out=tmp_path / "out", workers=0)
    assert sum(by_source(tmp_path / "out", stored=True).values()) == 12


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20_000_000_000), ("1.5 GiB", 3 << 29), ("100", 100), ("7 kb", 7000), ("0.5MiB", 1 << 19), ("3B", 3)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, "--budget") == size


@pytest.mark.parametrize("text", ["", "GB", "1 iB", "20 gigabytes", "-1GB", "0", "1e9", "9999999TB", "1.5.2GB", "٣GB"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--budget"):
        parse_size(text, "--budget")


def test_borrowing_needs_a_total(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="add --total N"):
        bounded(spec_of(notes("a")), borrow=True)


def few(folder: Path, count: int, **fields: Any) -> dict[str, Any]:
    if not (folder / "few.jsonl").exists():
        write_questions(folder / "few.jsonl", range(count))
    return questions(folder / "few.jsonl", "few", **fields)


def borrowing(folder: Path, method: str) -> BuildSpec:
    """100 of four sources: one has 6 of 30, one 22 of 20, one may give 12 and no more, the last has plenty."""
    if not (folder / "some.jsonl").exists():
        write_questions(folder / "some.jsonl", range(100, 122))
        write_questions(folder / "limited.jsonl", range(200, 300))
    sampling = {"sampling": {"method": method}}
    return spec_of(
        few(folder, 6, ratio=0.3, **sampling),
        questions(folder / "some.jsonl", "some", ratio=0.2, partitions=2, **sampling),
        questions(folder / "limited.jsonl", "limited", ratio=0.1, limit=12, **sampling),
        notes("a", 400, ratio=0.4, **sampling),
        total=100,
    )


def by_source(out: Path, *, stored: bool = False) -> dict[str, int]:
    manifest = open_dataset(str(out)).manifest
    if not stored:
        return dict(manifest.totals.by_source)
    counts: Counter[str] = Counter()
    for entry in manifest.shards:
        counts[entry.source] += entry.samples
    return dict(counts)


@pytest.mark.parametrize(
    ("name", "settings", "total"),
    [
        ("censored", {}, 100_000),
        ("uncensored", {}, 500_000),
        ("fullstack", {"repetitive": "a", "pairs": "b"}, 500_000),
        ("real-synthetic", {"real": "a", "synthetic": "b"}, 100_000),
    ],
)
def test_mixes_of_the_project_add_up_exactly(name: str, settings: dict[str, str], total: int) -> None:
    spec = load_spec(MIXES / f"{name}.yaml", settings)
    free = [msgspec.structs.replace(source, limit=None) for source in spec.sources]
    bounds = source_bounds(msgspec.structs.replace(spec, sources=tuple(free)), None)
    assert sum(bound.quota or 0 for bound in bounds) == total


def test_the_censored_mix_is_seven_tenths_preference() -> None:
    spec = load_spec(MIXES / "censored.yaml")
    quotas = {one.name: bound.quota for one, bound in zip(spec.sources, source_bounds(spec, None), strict=True)}
    assert quotas == {
        "ultrafeedback": 20_000, "helpsteer": 15_000, "hh-rlhf": 25_000, "nectar": 10_000, "pku-saferlhf": 10_000,
        "beavertails": 20_000,
    }  # fmt: skip


def test_the_uncensored_mix_leaves_toxic_dpo_out_and_shares_its_part() -> None:
    spec = load_spec(MIXES / "uncensored.yaml")
    assert [one.name for one in spec.sources if one not in sources_taken(spec)] == ["toxic-dpo-v0-1"]
    assert "toxic-dpo-v0-1 is left out for its content" in left_out(spec)[0]
    quotas = [bound.quota for bound in source_bounds(spec, None)]
    assert quotas[0] == 105_263  # 20 of 95 parts
    asked = load_spec(MIXES / "uncensored.yaml", {"content_warnings": "true"})
    assert [bound.quota for bound in source_bounds(asked, None)][7] == 25_000
    assert left_out(asked) == ()


def test_the_multimodal_mix_has_its_full_scale_numbers() -> None:
    spec = load_spec(MIXES / "multimodal-1m.yaml")
    quotas = {one.name: bound.quota for one, bound in zip(spec.sources, source_bounds(spec, None), strict=True)}
    assert [quotas[name] for name in ("websight", "common-voice-en", "common-voice-hi", "finevideo")] == [
        250_000, 250_000, 50_000, 10_000,
    ]  # fmt: skip
    assert [getattr(one, "config", "") for one in spec.sources[1:5]] == ["en", "es", "fr", "hi"]
    benchmarks = [one for one in spec.sources if one.domain == "benchmark"]
    assert len(benchmarks) >= 10
    assert all(quotas[one.name] is None for one in benchmarks)


def test_real_and_synthetic_of_whatever_is_given(tmp_path: Path) -> None:
    for name in ("real", "synthetic"):
        turns = [{"role": "user", "content": name}, {"role": "assistant", "content": ""}]
        rows = [{"messages": [turns[0], {**turns[1], "content": f"{name} {at}"}]} for at in range(50)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {name: str(tmp_path / f"{name}.jsonl") for name in ("real", "synthetic")}
    spec = bounded(load_spec(MIXES / "real-synthetic.yaml", settings), total=21)
    build(spec, out=tmp_path / "out", workers=0)
    assert by_source(tmp_path / "out") == {"real": 6, "synthetic": 15}
