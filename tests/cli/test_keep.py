"""Keeping a dataset whole from the command line: repair's exit codes and what it says."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from shardkit import open_dataset
from tests.cli.conftest import Command
from tests.read.made import make_dataset, numbered


def test_repair_mends_what_it_can_and_says_so(shardkit: Command, tmp_path: Path) -> None:
    root = tmp_path / "data"
    make_dataset(root, numbered([6, 4], images=False), codec="tar", block=4)
    shutil.copytree(root, tmp_path / "copy")
    (index, *_) = sorted(root.glob("indexes/*/*"))
    (shard, *_) = sorted(root.glob("shards/*/*"))
    index.unlink()
    shard.write_bytes(b"")
    checked = shardkit("verify", root).out
    assert "run `shardkit verify" not in checked and "`shardkit repair FOLDER --mirror URL`" in checked
    alone = shardkit("repair", root)
    assert alone.code == 4
    assert shard.name in alone.out
    assert "--mirror" in alone.out
    both = shardkit("repair", root, "--mirror", tmp_path / "copy", "--json")
    events = [json.loads(line) for line in both.out.splitlines()]
    assert both.code == 0
    assert events[-1]["event"] == "done"
    assert events[-1]["left"] == 0
    assert shardkit("verify", root).code == 0
    assert "all good" in shardkit("repair", root).out


def test_a_url_is_not_repaired_but_named_as_a_mirror(shardkit: Command) -> None:
    outcome = shardkit("repair", "https://host/data")
    assert outcome.code == 2
    assert "--mirror" in outcome.err


def test_verify_reads_tars_that_others_made(shardkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDKIT_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "a-0.tar", "w") as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"text%d" % number))
    assert "3 samples" in shardkit("verify", tmp_path / "a-{0..0}.tar").out
    assert shardkit("index", tmp_path / "a-0.tar", "--out", tmp_path / "index").code == 0
    assert shardkit("verify", tmp_path / "index").code == 0
    spoilt = bytearray((tmp_path / "a-0.tar").read_bytes())
    spoilt[515] ^= 1
    (tmp_path / "a-0.tar").write_bytes(spoilt)
    assert shardkit("verify", tmp_path / "index").code == 4


@pytest.mark.parametrize(
    "arguments", [("repair", ""), ("repair", "x", "--mirror", " "), ("index", ""), ("cat", "x", "KEY", "--out", "")]
)
def test_a_blank_name_is_not_the_current_folder(
    shardkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    make_dataset(tmp_path / "x", numbered([3]))
    made = {"x": str(tmp_path / "x"), "KEY": open_dataset(tmp_path / "x")[0].key}
    monkeypatch.chdir(tmp_path / "x")
    outcome = shardkit(*(made.get(word, word) for word in arguments))
    assert outcome.code == 2
    assert "empty shell variable" in outcome.err
