"""Decontamination: rows of benchmarks are found however they are written, and what is common to many is not."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from shardkit.curate.benchmarks import open_benchmarks, read_rows
from shardkit.curate.dedup import How, dedup, open_one
from shardkit.curate.ngrams import gather_grams
from shardkit.curate.row_texts import texts_of
from shardkit.curate.words import hash_words
from shardkit.errors import SpecError
from shardkit.records.row import Prepared
from shardkit.spec import DedupOptions
from shardkit.store.reasons import read_reasons
from tests.curate.making import chat, make, texts

# In the shape of GSM8K's rows, made up.
ROWS = [
    {
        "question": "Mara bakes 14 trays of rolls on Monday, and twice as many on Tuesday. She sells all but 6 of "
        "them. How many trays does she sell in the two days altogether?",
        "answer": "On Tuesday she bakes 14*2 = <<14*2=28>>28 trays.\nShe sells 14+28-6 = <<14+28-6=36>>36.\n#### 36",
    },
    {
        "question": "A tank holds 900 litres. A pump empties it at 45 litres a minute while a pipe adds 15 litres a "
        "minute. After how many minutes is the tank empty?",
        "answer": "It loses 45-15 = <<45-15=30>>30 litres a minute.\n900/30 = <<900/30=30>>30\n#### 30",
    },
    {"question": "How many legs do nine spiders have?", "answer": "9*8=72\n#### 72"},
    {"question": "2+2?", "answer": "4"},
    {"question": "Why?", "answer": ""},
]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    return path


def rewritten(text: str, seed: int) -> str:
    """The text with other white space and case."""
    draw = random.Random(seed)
    words = [word.upper() if draw.random() < 0.4 else word.lower() for word in text.split()]
    return "".join(word + draw.choice((" ", "  ", "\n", " \t", "\u00a0")) for word in words)


def found_in(root: Path, samples: list[Prepared], against: Path, words: int = 13) -> dict[int, int]:
    """Position of each contaminated sample -> the row that it holds."""
    make(root, samples, shards=2)
    dedup(str(root), DedupOptions(compare=(), against=(str(against),), run_words=words), How())
    dataset = open_one(root)
    reasons = read_reasons(dataset.store, dataset.manifest)
    size = -(-len(samples) // 2)
    return {shard * size + ordinal: reason.row for shard, ordinal, reason in reasons.all()} if reasons else {}


def test_rows_are_found_with_other_white_space_and_case_and_words_around(tmp_path: Path, benchmark: Path) -> None:
    noise = texts(6)
    samples = [
        chat(0, noise[0], noise[1]),
        chat(1, f"Solve this: {rewritten(ROWS[0]['question'], 1)}", "36"),
        chat(2, noise[2], f"{noise[3]} {rewritten(ROWS[1]['question'], 2)} {noise[4]}"),
        chat(3, rewritten(" ".join(ROWS[0]["answer"].split()), 3)),
        chat(4, " ".join(ROWS[0]["question"].split()[:12])),
        chat(5, noise[5], system=ROWS[1]["question"]),
    ]
    assert found_in(tmp_path / "data", samples, benchmark) == {1: 0, 2: 1, 3: 0, 5: 1}


def test_short_rows_must_be_a_whole_message_and_bare_answers_say_nothing(tmp_path: Path, benchmark: Path) -> None:
    samples = [
        chat(0, "HOW many  legs do nine spiders have", "Seventy-two."),
        chat(1, "How many legs do nine spiders have, and how many eyes?", "72"),
        chat(2, "What is 8 times 9?", "#### 72"),
        chat(3, "2 + 2", "4"),
        chat(4, "2 + 2 + 2", "6"),
        chat(5, "Why?", "Because."),
    ]
    assert found_in(tmp_path / "data", samples, benchmark) == {0: 2, 3: 3}


def test_rows_are_counted_and_what_cannot_be_found_is_said(tmp_path: Path, benchmark: Path) -> None:
    _, (counts,) = gather_grams(open_benchmarks([str(benchmark)], tmp_path).found, 13)
    assert (counts.name, counts.rows, counts.too_short) == ("sums", 5, 1)
    assert counts.whole == 3  # a short question, the answer of that row, the row that is short as a whole


def test_what_many_rows_begin_with_is_the_benchmarks_frame(tmp_path: Path) -> None:
    frame = "Choose the right one of the four answers below and give its letter alone without any other word"
    rows = [{"question": f"{frame} {text}"} for text in texts(120, words=20)]
    path = tmp_path / "choices.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    grams, (counts,) = gather_grams(open_benchmarks([str(path)], tmp_path).found, 13)
    assert counts.frame == len(frame.split()) - 12
    assert grams.find([[hash_words(f"{frame}: what is this?")], [hash_words(rows[7]["question"])]]) == [(1, 0, 7)]


def test_a_short_text_of_many_rows_is_frame_too(tmp_path: Path) -> None:
    rows = [{"task": "Draw this page as you see it.", "code": text} for text in texts(60, words=20)]
    path = tmp_path / "pages.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    samples = [chat(0, "Draw this page as you see it.", texts(1, seed=9)[0]), chat(1, rows[3]["code"])]
    assert found_in(tmp_path / "data", samples, path) == {1: 3}


def test_a_dataset_of_ours_and_compressed_lines_are_benchmarks_too(tmp_path: Path, benchmark: Path) -> None:
    make(tmp_path / "bench", [chat(at, row["question"], row["answer"]) for at, row in enumerate(ROWS[:2])])
    packed = tmp_path / "packed" / "part-0.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(benchmark.read_bytes()))
    planted = [chat(0, rewritten(ROWS[1]["question"], 5)), *(chat(1 + at, text) for at, text in enumerate(texts(3)))]
    for number, place in enumerate((tmp_path / "bench", packed, packed.parent)):
        assert found_in(tmp_path / f"data-{number}", planted, place) == {0: 1}


def test_the_first_row_and_benchmark_is_named_and_the_record_says_what_was_looked_for(
    tmp_path: Path, benchmark: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": texts(1, seed=8)[0]}) + "\n" + json.dumps(ROWS[0]), encoding="utf-8")
    make(tmp_path / "data", [chat(0, ROWS[0]["question"]), chat(1, texts(1, seed=8)[0]), chat(2, texts(1)[0])])
    options = DedupOptions(against=(str(other), str(benchmark)))
    done = dedup(str(tmp_path / "data"), options, How())
    assert done.contaminated == {"other": 2, "sums": 0}
    dataset = open_one(tmp_path / "data")
    reasons = read_reasons(dataset.store, dataset.manifest)
    assert reasons is not None and reasons.benchmarks == ("other", "sums")
    assert [(reason.benchmark, reason.row) for _, _, reason in reasons.all()] == [("other", 1), ("other", 0)]
    step = dataset.manifest.step
    assert step is not None and step.name == "dedup"
    assert [(one["name"], one["rows"]) for one in step.options["against"]] == [("other", 2), ("sums", 5)]
    assert str(tmp_path) not in str(step)


def test_a_second_search_leaves_the_names_of_the_first_as_they_were(tmp_path: Path, benchmark: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": texts(1, seed=8)[0]}) + "\n", encoding="utf-8")
    make(tmp_path / "data", [chat(0, ROWS[1]["question"]), chat(1, texts(1, seed=8)[0]), chat(2, texts(1)[0])])
    for against in (benchmark, other):
        dedup(str(tmp_path / "data"), DedupOptions(compare=(), against=(str(against),)), How())
    dataset = open_one(tmp_path / "data")
    reasons = read_reasons(dataset.store, dataset.manifest)
    assert reasons is not None and reasons.benchmarks == ("sums", "other")
    assert [(reason.benchmark, reason.row) for _, _, reason in reasons.all()] == [("sums", 1), ("other", 0)]


def test_texts_of_a_row_leave_out_what_says_nothing() -> None:
    row = {
        "id": "x" * 40, "question": "Q?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "n": 3,
        "url": "http://x", "turns": [{"content": "hello"}, {"content": " "}],
    }  # fmt: skip
    assert texts_of(row) == ["Q?", "one\ntwo", "A\nB", "hello"]


@pytest.mark.parametrize("place", ["missing.jsonl", "empty", "notes.txt"])
def test_what_is_no_benchmark_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SpecError, match="no benchmark"):
        open_benchmarks([str(tmp_path / place)], tmp_path)


@pytest.mark.parametrize("data", [b'{"a": "b"}\n{"a"\n', gzip.compress(b'{"a": "b"}\n' * 9)[:-12]])
def test_damaged_benchmarks_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / ("b.jsonl.gz" if data[:1] == b"\x1f" else "b.jsonl")
    path.write_bytes(data)
    (benchmark,) = open_benchmarks([str(path)], tmp_path).found
    with pytest.raises(SpecError):
        list(read_rows(benchmark))


def test_benchmarks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = []
    for number in range(3):
        places.append(tmp_path / str(number) / "test.jsonl")
        places[-1].parent.mkdir()
        places[-1].write_text(json.dumps({"question": f"number {number}"}))
    assert [one.name for one in open_benchmarks(list(map(str, places)), tmp_path).found] == ["test", "test-2", "test-3"]


def test_the_same_benchmark_twice_is_refused(tmp_path: Path, benchmark: Path) -> None:
    with pytest.raises(SpecError, match="twice"):
        open_benchmarks([str(benchmark), str(benchmark)], benchmark.parent)
