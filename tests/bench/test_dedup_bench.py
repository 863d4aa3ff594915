"""The benchmark of deduplication, small: its texts are what they are said to be, and it finds what it planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench.dedup import main
from tools.bench.dedup_texts import KINDS, LEAST, TOO_FAR, make_texts, similarity


def plain(text: str) -> list[str]:
    return text.lower().replace(",", "").replace(".", "").split()


def test_copies_are_as_near_as_they_are_said_to_be() -> None:
    made = list(make_texts(300, seed=1))
    assert {text.kind for text in made} == {"original", "framed", "too far", *KINDS}
    for text in made:
        if text.of < 0:
            continue
        assert similarity(plain(made[text.of].text), plain(text.text)) == text.similarity
        assert text.similarity >= LEAST if text.kind in KINDS else text.similarity < TOO_FAR
    assert [text.text for text in make_texts(300, seed=1)] == [text.text for text in made]


def test_small_benchmark_finds_all_that_it_planted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--texts", "400", "--alone", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["planted"] > 50
    ours = figures["shardkit"]
    assert (ours["recall"], ours["precision"], ours["with_its_original"]) == (1.0, 1.0, 1.0)
    assert set(ours["recall_by_kind"]) == set(KINDS) and 0 < ours["peak_mb"] < 1000


def test_small_benchmark_finds_planted_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "exam.jsonl"
    asked = [text.text for text in make_texts(20, seed=9) if text.kind == "original"]
    rows.write_text("\n".join(json.dumps({"question": " ".join(text.split())}) for text in asked))
    assert main(["--texts", "60", "--against", str(rows)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["found"], figures["wrong"]) == (figures["planted"], 0) == (len(asked), 0)
