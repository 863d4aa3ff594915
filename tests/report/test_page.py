"""The page of a dataset and its figures, on a small build of every modality."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shardkit import Dataset, build_dataset, load_spec, open_dataset
from shardkit.report.page import write_report
from shardkit.report.stats import dataset_stats

SPEC = Path(__file__).parent.parent.parent / "specs" / "builds" / "demo.yaml"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("page") / "data"
    build_dataset(load_spec(SPEC), out=folder, sample=3, workers=0)
    return open_dataset(folder)


class Page(HTMLParser):
    """Counts what a page shows, and remembers every address that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


def test_page_shows_samples_of_every_modality_and_needs_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    page = Page(write_report(dataset, tmp_path / "deep" / "report.html", per_source=2).read_text())
    assert page.count["article"] == 8
    assert page.count["audio"] == 4  # two recordings and the sound of two videos
    assert page.count["img"] == 2 + 2 * 8
    assert "script" not in page.count
    assert all(address.startswith("data:") for address in page.addresses)


def test_text_of_a_sample_cannot_become_markup(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "<script>alert(1)</script> <|image|>", "answer": "</pre><img src=x>"}))
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: evil\nsources:\n  - {kind: jsonl, name: a, normalizer: question_answer, "
        f"path: {rows}, category: '<b>bold</b>'}}\n"
    )
    build_dataset(load_spec(spec), out=tmp_path / "data", workers=0)
    text = write_report(open_dataset(tmp_path / "data"), tmp_path / "report.html").read_text()
    page = Page(text)
    assert not {"script", "b", "img"} & set(page.count)
    assert "&lt;|image|&gt;" in text


def test_stats_add_up(dataset: Dataset) -> None:
    figures = dataset_stats(dataset)
    assert figures.samples == len(dataset) == sum(figures.by_source.values()) == sum(figures.by_modality.values()) == 12
    assert figures.by_source == {"code": 3, "screenshots": 3, "audio": 3, "video": 3}
    assert figures.bytes == sum(path.stat().st_size for path in Path(dataset.url).glob("shards/*/*"))
    assert re.search(r"^samples +12$", figures.text(), re.MULTILINE)
