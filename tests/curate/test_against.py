"""Decontamination against benchmarks of the catalog: the real client reads them from a Hub on loopback."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit.curate.dedup import dedup, open_one
from shardkit.errors import SourceUnavailable, SpecError
from shardkit.spec import BenchmarkSource, DedupOptions, convert_spec
from shardkit.spec.catalog.benchmarks import find_benchmarks
from shardkit.spec.catalog.folder import catalog_folders
from shardkit.store.reasons import read_reasons
from tests.cli.conftest import Command
from tests.cli.conftest import shardkit as shardkit
from tests.curate.exams import CODE, IDS, SUMS, repository, rewritten
from tests.curate.making import chat, make, texts
from tests.records.published import PUBLISHED
from tests.servers.hub import Hub, hub_server


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
def data(tmp_path: Path) -> Path:
    """Samples of which 1 holds row 7 of GSM8K, 4 its solution of row 9, and 2 row 3 of HumanEval."""
    noise = texts(6)
    samples = [
        chat(0, noise[0], noise[1]),
        chat(1, f"Solve this: {rewritten(SUMS[7]['question'], 1)}", "36"),
        chat(2, rewritten(CODE[3]["prompt"], 2), "Like so."),
        chat(3, noise[2], noise[3]),
        chat(4, noise[4], rewritten(" ".join(SUMS[9]["answer"].split()).replace("<<20*2=40>>", ""), 3)),
        chat(5, noise[5]),
    ]
    make(tmp_path / "data", samples, shards=2)
    return tmp_path / "data"


def against(*names: str, **more: Any) -> DedupOptions:
    return DedupOptions(compare=(), against=find_benchmarks(names, catalog_folders()), **more)


def gone(root: Path) -> dict[tuple[int, int], tuple[str, int]]:
    """(shard, ordinal) of each sample that is left out -> the benchmark and the row that it holds."""
    dataset = open_one(root)
    reasons = read_reasons(dataset.store, dataset.manifest)
    return {(s, o): (one.benchmark, one.row) for s, o, one in reasons.all()} if reasons else {}


def test_rows_of_entries_are_found_and_the_record_names_their_revisions(hub: Hub, data: Path) -> None:
    done = dedup(str(data), against("gsm8k", "humaneval"))
    assert done.contaminated == {"gsm8k": 2, "humaneval": 1}
    assert gone(data) == {(0, 1): ("gsm8k", 7), (0, 2): ("humaneval", 3), (1, 1): ("gsm8k", 9)}
    step = open_one(data).manifest.step
    assert step is not None
    told = [{name: one[name] for name in ("entry", "dataset", "revision", "rows")} for one in step.options["against"]]
    assert told == [
        {"entry": name, "dataset": IDS[name], "revision": hub.head(IDS[name]), "rows": rows}
        for name, rows in (("gsm8k", len(SUMS)), ("humaneval", len(CODE)))
    ]
    assert hub.url not in str(step)
    assert dedup(str(data), against("gsm8k", "humaneval")).unchanged


def test_the_version_depends_on_the_revision_and_on_nothing_else(hub: Hub, data: Path, tmp_path: Path) -> None:
    versions = []
    for number in range(3):
        folder = tmp_path / f"copy-{number}"
        make(folder, [chat(0, SUMS[7]["question"]), *(chat(1 + at, text) for at, text in enumerate(texts(5)))], 2)
        if number == 2:
            hub.commit(IDS["gsm8k"], repository("main", "test", SUMS[:20]))
        versions.append(dedup(str(folder), against("gsm8k")).version)
    assert versions[0] == versions[1] != versions[2]


def test_another_reading_of_an_entry_is_named_by_its_variant(hub: Hub, data: Path) -> None:
    hub.commit(IDS["gsm8k"], repository("main", "train", SUMS[5:]))
    assert dedup(str(data), against("gsm8k:train")).contaminated == {"gsm8k:train": 2}
    with pytest.raises(SpecError, match="no variant 'dev'; there are: train"):
        against("gsm8k:dev")


@pytest.mark.parametrize(("way", "told"), [("gated", "is gated; accept"), ("gone", "gsm8k"), ("private", "gsm8k")])
def test_what_cannot_be_reached_is_an_error_and_nothing_changes(hub: Hub, data: Path, way: str, told: str) -> None:
    before = open_one(data).version
    if way == "gone":
        del hub.commits[IDS["gsm8k"]]
    else:
        getattr(hub, way).add(IDS["gsm8k"])
    with pytest.raises(SourceUnavailable, match=told):
        dedup(str(data), against("humaneval", "gsm8k"))
    assert open_one(data).version == before
    done = dedup(str(data), against("humaneval", "gsm8k", skip_unreachable=True))
    assert [one.name for one in done.unreachable] == ["gsm8k"] and done.contaminated == {"humaneval": 1}
    step = open_one(data).manifest.step
    assert step is not None
    assert step.options["unreachable"] == [{"name": "gsm8k", "reason": done.unreachable[0].reason}]
    assert done.unreachable[0].reason and hub.url not in done.unreachable[0].reason


def test_an_entry_that_is_not_to_be_had_says_so(data: Path) -> None:
    for name, told in (
        ("mmlu-no-train", "is metadata-only"),
        ("gsm8", "did you mean gsm8k"),
        ("nothing-like-it", "no entry"),
    ):
        with pytest.raises(SpecError, match=told):
            against(name)


def test_a_busy_or_failing_host_is_asked_again(hub: Hub, data: Path) -> None:
    hub.api_faults.extend(["429", "503"])
    hub.faults.extend(["cut", "reset", "503"])
    assert dedup(str(data), against("gsm8k")).contaminated == {"gsm8k": 2}


def test_pictures_are_neither_fetched_nor_decoded(hub: Hub, tmp_path: Path) -> None:
    noise = random.Random(3)
    questions = [f"How much does the chart say for {text}?" for text in texts(60, seed=50, words=14)]
    fields = dict(PUBLISHED["lmms-lab-encoder/ChartQA"].rows()[0])
    rows = [{**fields, "question": question, "image": {"bytes": noise.randbytes(100_000)}} for question in questions]
    hub.commit(IDS["chartqa-test"], repository("default", "test", rows))
    hub.large_bytes = 1 << 30
    make(tmp_path / "data", [chat(0, *texts(2)), chat(1, rewritten(questions[41], 1), "Much.")])
    assert dedup(str(tmp_path / "data"), against("chartqa-test")).contaminated == {"chartqa-test": 1}
    assert 0 < hub.sent_bytes < 1_000_000 < len(rows) * 100_000


def test_a_row_that_its_normaliser_refuses_counts_too(hub: Hub, tmp_path: Path) -> None:
    asked = "What is the name of the river that runs by the mill in the third picture of this long series?"
    row = {**PUBLISHED["lmms-lab-encoder/ChartQA"].rows()[0], "question": asked, "answer": None}
    hub.commit(IDS["chartqa-test"], repository("default", "test", [row, {**row, "answer": "The Ouse"}]))
    make(tmp_path / "data", [chat(0, texts(1)[0]), chat(1, rewritten(asked, 4))])
    dedup(str(tmp_path / "data"), against("chartqa-test"))
    assert gone(tmp_path / "data") == {(1, 0): ("chartqa-test", 0)}


def test_a_short_question_about_a_picture_counts_with_its_answer_only(hub: Hub, tmp_path: Path) -> None:
    row = {**PUBLISHED["lmms-lab-encoder/ChartQA"].rows()[0], "question": "What does the title say?", "answer": "Rain"}
    hub.commit(IDS["chartqa-test"], repository("default", "test", [row]))
    make(tmp_path / "data", [chat(0, "What does the title say?", "Snow"), chat(1, "what does the title say", "RAIN")])
    dedup(str(tmp_path / "data"), against("chartqa-test"))
    assert gone(tmp_path / "data") == {(1, 0): ("chartqa-test", 0)}


def test_a_source_of_ones_own_is_a_benchmark(tmp_path: Path, data: Path) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({"q": SUMS[7]["question"], "a": "4"}) + "\n", encoding="utf-8")
    source = {
        "kind": "jsonl", "name": "own", "path": str(tmp_path / "own.jsonl"), "normalizer": "question_answer",
        "columns": {"question": "q", "answer": "a"},
    }  # fmt: skip
    own = convert_spec({"name": "own", "source": source}, BenchmarkSource, "test")
    assert dedup(str(data), DedupOptions(compare=(), against=(own,))).contaminated == {"own": 1}


def test_the_word_benchmarks_is_all_that_are_available() -> None:
    found = find_benchmarks(("gsm8k", "benchmarks"), catalog_folders())
    names = [one if isinstance(one, str) else one.name for one in found]
    assert names[0] == "gsm8k" and len(set(names)) == len(names) and {"humaneval", "mmlu", "docvqa"} < set(names)
    assert not {"mmlu-no-train", "chartqa"} & set(names)  # metadata alone, and no benchmark


def test_the_command_takes_names_and_tells_what_was_compared(shardkit: Command, hub: Hub, data: Path) -> None:
    asked = ("dedup", data, "--only-against", "--against", "benchmarks", "--workers", 1)
    ended = shardkit(*asked)
    assert ended.code == 3 and "ai2d" in ended.err
    ended = shardkit(*asked, "--skip-unreachable", "--dry-run", "--out", data.parent / "page.html")
    assert (
        ended.code == 0
        and f"gsm8k: compared with {len(SUMS)} rows of openai/gsm8k at {hub.head(IDS['gsm8k'])}" in ended.out
    )
    assert "mmlu: " in ended.out and "nothing was compared with it" in ended.out
    assert "Mara" in (data.parent / "page.html").read_text()
    assert shardkit(*asked, "--skip-unreachable").code == 0 and len(gone(data)) == 3


def test_a_folder_that_is_called_as_an_entry_is_not_in_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    (entry, *places) = find_benchmarks(("gsm8k", "./gsm8k", "mine"), catalog_folders())
    assert isinstance(entry, BenchmarkSource) and places == ["./gsm8k", "mine"]
