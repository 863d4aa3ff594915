"""The command dedup: a dry run shows and changes nothing, a run publishes, mistakes are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shardkit.curate.dedup import open_one
from shardkit.read.serve import serve_folder
from tests.cli.conftest import Command
from tests.curate.making import chat, jpeg, make, photo, png, seen, texts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    one, two, asked = texts(3, words=30)
    samples = [
        chat(0, f"<b>{one}"),
        chat(1, f"{one} extra"),
        chat(2, two),
        seen(3, png(photo(1)), two),
        seen(4, jpeg(photo(1), 70), two),
        chat(5, f"Please: {asked.upper()}"),
    ]
    make(tmp_path / "data", samples, shards=2)
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": asked}) + "\n" + json.dumps({"answer": "4"}) + "\n")
    return tmp_path / "data"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.marked: dict[str, str] = {"ins": "", "del": ""}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        if self._inside in self.marked:
            self.marked[self._inside] += f"{data.strip()} "

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_dry_run_shows_clusters_and_changes_nothing(shardkit: Command, root: Path, tmp_path: Path) -> None:
    before = files(root)
    options = ("--against", tmp_path / "exam.jsonl", "--out", tmp_path / "p.html", "--workers", 1, "--json")
    ended = shardkit("dedup", root, "--dry-run", *options)
    assert ended.code == 0 and files(root) == before
    (done,) = [json.loads(line) for line in ended.out.splitlines()]
    assert (done["event"], done["dry_run"], done["omitted"], done["clusters"]) == ("done", True, 3, 2)
    assert (done["near_duplicates"], done["contaminated"], done["samples"]) == (2, {"exam": 1}, 6)
    page = Page((tmp_path / "p.html").read_text())
    assert page.tags.count("article") == 3 and page.tags.count("img") == 2
    assert "script" not in page.tags and "b" not in page.tags
    assert all(address.startswith("data:image/jpeg") for address in page.addresses)
    assert "extra" in page.marked["ins"]


def test_a_run_publishes_and_a_second_one_does_not(shardkit: Command, root: Path, tmp_path: Path) -> None:
    first = shardkit("dedup", root, "--workers", 1, "--against", tmp_path / "exam.jsonl")
    assert first.code == 0 and "3 samples, 3 left out" in first.out
    assert "1 with rows of exam" in first.out and "1 of 2 rows are too short" in first.out
    assert len(open_one(root)) == 3
    again = shardkit("dedup", root, "--against", tmp_path / "exam.jsonl")
    assert again.code == 0 and "stays as it is" in again.out
    assert shardkit("verify", root, "--deep").code == 0
    assert json.loads(shardkit("stats", root, "--json").out)["omitted"] == 3


def test_what_is_compared_can_be_chosen(shardkit: Command, root: Path, tmp_path: Path) -> None:
    options = ("--dry-run", "--out", tmp_path / "p.html", "--json", "--workers", 1)
    looks = [("--images",), ("--text",), ("--audio",), ("--only-against", "--against", tmp_path / "exam.jsonl")]
    found = [json.loads(shardkit("dedup", root, *look, *options).out) for look in looks]
    assert [done["omitted"] for done in found] == [1, 3, 0, 1]
    assert [done["passed"] for done in found] == [4, 0, 6, 5]


def test_a_dataset_behind_a_url_can_be_looked_at(shardkit: Command, root: Path, tmp_path: Path) -> None:
    with serve_folder(root) as server:
        ended = shardkit("dedup", server.url, "--dry-run", "--out", tmp_path / "p.html", "--json", "--workers", 1)
        assert ended.code == 0 and json.loads(ended.out)["omitted"] == 2
        refused = shardkit("dedup", server.url)
    assert refused.code == 2 and "--dry-run" in refused.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--threshold", "0.2"), "0.5 to 1"),
        (("--run-words", "3"), "run_words is 3"),
        (("--against", "nowhere.jsonl"), "no benchmark"),
        (("--only-against",), "--only-against"),
    ],
)
def test_mistakes_are_named(shardkit: Command, root: Path, options: tuple[str, ...], told: str) -> None:
    ended = shardkit("dedup", root, *options)
    assert ended.code == 2 and told in ended.err


def test_split_keeps_near_duplicates_together(shardkit: Command, tmp_path: Path) -> None:
    pairs = [(text, f"{text.upper()}!") for text in texts(12, words=30)]
    rows = [*(first for first, _ in pairs), *(second for _, second in pairs)]
    make(tmp_path / "data", [chat(at, row) for at, row in enumerate(rows)], shards=2)
    asked = ("--ratios", "train=0.5,test=0.5", "--group", "", "--near")
    told = json.loads(shardkit("split", tmp_path / "data", *asked, "--json").out)
    assert (told["groups"], told["largest_group"]) == (12, 2)
    found = shardkit("ls", tmp_path / "data", "--where", "split=train", "--json").out
    train = {json.loads(line)["key"] for line in found.splitlines()}
    keys = [item.key for item in open_one(tmp_path / "data")]
    assert len(train) == 12
    assert all((keys[at] in train) == (keys[at + 12] in train) for at in range(12))


@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_ctrl_c_ends_all_processes_at_once_without_noise(tmp_path: Path, seconds: float) -> None:
    """A terminal's Ctrl-C goes to every process: while they start, and while they are at work."""
    make(tmp_path / "data", [chat(at, text) for at, text in enumerate(texts(4000, words=60))], shards=6)
    command = [sys.executable, "-m", "shardkit", "dedup", str(tmp_path / "data"), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:  # the first is multiprocessing's own
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.count("\n") == 1 and "interrupted" in told
    assert not list((tmp_path / "data").rglob("*dedup-shard*"))
    assert open_one(tmp_path / "data").manifest.parent is None
