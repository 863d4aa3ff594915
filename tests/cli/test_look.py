"""Looking at samples from the command line: ls with filters, cat by key, from a folder and from a URL."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from shardkit import Message, open_dataset
from shardkit.read.serve import serve_folder
from shardkit.records.row import Prepared
from tests.cli.conftest import Command
from tests.read.foreign import write_tar
from tests.read.made import make_dataset, numbered, text_sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "data", numbered([6, 4], images=True), codec="tar", block=4)
    return tmp_path / "data"


def test_ls_names_every_sample_of_a_url_without_reading_shards(shardkit: Command, root: Path) -> None:
    with serve_folder(root) as server:
        listed = [json.loads(line) for line in shardkit("ls", server.url, "--json").out.splitlines()]
        assert not [request for request in server.requests if request.path.startswith("shards/")]
    items = list(open_dataset(root))
    assert [row["key"] for row in listed] == [item.key for item in items]
    assert [row["bytes"] for row in listed] == [item.size_bytes for item in items]


def test_ls_takes_what_the_filter_says(shardkit: Command, root: Path) -> None:
    wanted = [item.key for item in open_dataset(root) if item.sample.modalities.image]
    lines = shardkit("ls", root, "--where", "modality~image").out.splitlines()
    assert [line.split()[0] for line in lines] == wanted
    assert len(shardkit("ls", root, "--where", "modality~image", "--limit", 2).out.splitlines()) == min(2, len(wanted))
    assert shardkit("ls", root, "--where", "images>1000").out == ""
    refused = shardkit("ls", root, "--where", "colour=red")
    assert (refused.code, "colour" in refused.err) == (2, True)


def test_cat_shows_a_sample_by_the_beginning_of_its_key(shardkit: Command, root: Path) -> None:
    item = next(item for item in open_dataset(root) if item.sample.modalities.image)
    with serve_folder(root) as server:
        text = shardkit("cat", server.url, item.key[:12]).out
        assert len([request for request in server.requests if request.path.startswith("shards/")]) == 1
    assert item.key in text
    assert item.sample.messages[0].content in text
    shown = json.loads(shardkit("cat", root, item.key, "--json").out)
    assert shown["members"] == {name: len(data) for name, data in item.members.items()}
    assert shown["record"] == json.loads(bytes(item.members["json"])) | shown["record"]


def test_cat_writes_members(shardkit: Command, root: Path, tmp_path: Path) -> None:
    item = next(item for item in open_dataset(root) if item.sample.modalities.image)
    outcome = shardkit("cat", root, item.key, "--out", tmp_path / "one")
    assert {Path(line).read_bytes() for line in outcome.out.splitlines()} == {bytes(d) for d in item.members.values()}
    missing = shardkit("cat", root, item.key, "--member", "image7.png")
    assert (missing.code, "image0" in missing.err) == (2, True)


def test_cat_refuses_a_key_that_is_none_or_many(shardkit: Command, root: Path) -> None:
    assert shardkit("cat", root, "zz").code == 2
    many = shardkit("cat", root, "")
    assert (many.code, "more of the key" in many.err) == (2, True)


def test_cat_shows_what_ls_lists_and_no_sample_that_was_left_out(shardkit: Command, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    for name, keys in (("a", ("x1", "x2")), ("b", ("x1", "y10")), ("c", ("x3", "y11"))):
        samples = [(key, {"txt": b"text"} | ({"wanted": b"1"} if key in ("y10", "z") else {})) for key in (*keys, "z")]
        write_tar(tmp_path / "tars" / f"{name}.tar", samples)
    assert shardkit("index", tmp_path / "tars" / "*.tar", "--require", "wanted", "--workers", 0).code == 0
    listed = [line.split()[0] for line in shardkit("ls", tmp_path / "tars").out.splitlines()]
    assert listed == ["z", "y10", "z", "z"]
    assert "y10" in shardkit("cat", tmp_path / "tars", "y1").out
    assert shardkit("cat", tmp_path / "tars", "x1").code == 2
    assert shardkit("cat", tmp_path / "tars", "y11").code == 2


def test_cat_names_the_keys_that_begin_alike_once(shardkit: Command, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    for name, key in (("a", "x1"), ("b", "x1"), ("c", "x1"), ("d", "x1"), ("e", "x1"), ("f", "x1"), ("g", "x2")):
        write_tar(tmp_path / "tars" / f"{name}.tar", [(key, {"txt": b"text"})])
    assert shardkit("index", tmp_path / "tars" / "*.tar", "--workers", 0).code == 0
    many = shardkit("cat", tmp_path / "tars", "x")
    assert (many.code, "(x1, x2);" in many.err) == (2, True)


def test_what_stands_in_a_sample_cannot_steer_the_terminal(shardkit: Command, tmp_path: Path) -> None:
    messages = (Message(role="user", content="a\x1b[2Jb\n\tc"),)
    sample = msgspec.structs.replace(text_sample(1).sample, messages=messages)
    make_dataset(tmp_path / "data", [[Prepared(sample=sample)]], codec="tar", block=4)
    (item,) = open_dataset(tmp_path / "data")
    out = shardkit("cat", tmp_path / "data", item.key).out
    assert "\x1b" not in out
    assert "a\\x1b[2Jb\n\tc" in out
