"""Data cards: with every version, the same everywhere, and nothing in data steers what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from shardkit import BuildSpec, build_dataset, convert_spec, open_dataset
from shardkit.curate.card import make_card, render_card
from shardkit.curate.split import split_dataset
from shardkit.spec import SplitOptions


def build_chat(folder: Path, path: Path, **more: Any) -> str:
    source = {
        "kind": "jsonl", "name": "chat", "path": str(path), "normalizer": "question_answer", "licence": "cc-by-sa-4.0",
        "language": "en", "columns": {"category": "topic"},
    }  # fmt: skip
    spec = convert_spec({"name": "chat", "sources": [{**source, **more}]}, BuildSpec, "test")
    return build_dataset(spec, out=folder, workers=0).version


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [
        {"question": f"{at}?", "answer": str(at), "topic": ["a|b", "<script>x</script>"][at % 2]} for at in range(20)
    ]
    file = tmp_path / "chat.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in [*rows, {"question": "no answer"}]))
    return file


def test_every_version_has_its_card(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    first = build_chat(out, path)
    second = split_dataset(out, SplitOptions(ratios={"train": 0.5, "test": 0.5})).version
    names = sorted(card.name for card in (out / "cards").iterdir())
    assert names == sorted(f"{version}.{form}" for version in (first, second) for form in ("md", "html"))
    card = (out / "cards" / f"{second}.md").read_text()
    assert "| train | 10 | 50.00% |" in card and f"from `{first}`" in card
    assert "| refused: missing-field | 1 |" in card
    assert "| cc-by-sa-4.0 | share-alike |" in card


def test_a_lost_card_comes_back_with_the_next_build(path: Path, tmp_path: Path) -> None:
    version = build_chat(tmp_path / "data", path)
    card = tmp_path / "data" / "cards" / f"{version}.md"
    before = card.read_bytes()
    card.unlink()
    assert build_chat(tmp_path / "data", path) == version and card.read_bytes() == before


def test_the_card_is_the_same_in_another_folder(path: Path, tmp_path: Path) -> None:
    version = build_chat(tmp_path / "one", path)
    moved = path.rename(tmp_path / "elsewhere.jsonl").rename(tmp_path / "chat2.jsonl")
    moved.rename(path)
    build_chat(tmp_path / "two", path)
    for form in ("md", "html"):
        one, two = (tmp_path / name / "cards" / f"{version}.{form}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() and str(tmp_path) not in one.read_text()


def test_the_front_matter_is_yaml_and_cells_are_escaped(path: Path, tmp_path: Path) -> None:
    build_chat(tmp_path / "data", path)
    card = make_card(open_dataset(tmp_path / "data"))
    text = render_card(card, "md")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == ["cc-by-sa-4.0"] and head["language"] == ["en"] and head["size_categories"] == ["n<1K"]
    assert "| a\\|b | 10 |" in text and "\\<script\\>" in text
    page = render_card(card, "html")
    assert "<script>" not in page and "&lt;script&gt;" in page
