"""`shardkit sources` and `shardkit build NAME` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import Command

ENTRY = """
name: mine
title: Mine
group: text
id: me/mine
priority: 2
licence: mit
licence_class: free
source: {kind: jsonl, path: ROOT/rows.jsonl, normalizer: plain_text}
"""


def test_table_lists_what_passes_the_filters(shardkit: Command) -> None:
    outcome = shardkit("sources", "--modality", "audio", "--licence", "free", "--state", "available")
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0].split()[:3] == ["name", "group", "media"]
    assert [line.split()[0] for line in lines[1:-1]] == [
        "common-voice-17",
        "common-voice-17-fsicoli",
        "librispeech",
        "librispeech-eval",
    ]
    assert lines[-1].startswith("4 entries")


def test_all_entries_are_listed_and_as_json(shardkit: Command) -> None:
    table = shardkit("sources").out.splitlines()
    objects = [json.loads(line) for line in shardkit("sources", "--json").out.splitlines()]
    assert len(table) - 2 == len(objects) > 70
    assert {"name", "licence_class", "unverified", "url", "readable"} <= set(objects[0])


def test_nothing_passes_the_filters(shardkit: Command) -> None:
    outcome = shardkit("sources", "--group", "chat", "--modality", "video")
    assert (outcome.code, outcome.out) == (0, "no entry of the catalog is like that\n")


def test_show_explains_facts_doubts_licence_and_how_to_build(shardkit: Command) -> None:
    out = shardkit("sources", "show", "hh-rlhf").out
    for told in (
        "https://huggingface.co/datasets/Anthropic/hh-rlhf",
        "train 160,800",
        "note: Offensive and harmful requests",
        "any use, at most with attribution",
        "believed, not seen in print: rows, gated",
        "shardkit build hh-rlhf --sample 5",
        "shardkit build hh-rlhf:harmless --sample 5",
        "{kind: catalog, entry: hh-rlhf}",
    ):
        assert told in out


def test_show_tells_how_to_be_let_in(shardkit: Command) -> None:
    out = shardkit("sources", "show", "finevideo").out
    assert "HF_TOKEN" in out
    assert "https://huggingface.co/datasets/HuggingFaceFV/finevideo" in out


def test_show_as_json(shardkit: Command) -> None:
    entry = json.loads(shardkit("sources", "show", "howto100m", "--json").out)
    assert (entry["state"], entry["replacement"], entry["readable"]) == ("metadata-only", "finevideo", False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sources", "show", "slimorka"), "did you mean slimorca"),
        (("sources", "show", ""), "names nothing"),
        (("sources", "show", "gsm8k:mian"), "no variant 'mian'; there are: train, socratic"),
        (("sources", "--priority", "9"), "there are: 0, 1, 2, 3, 4"),
        (("sources", "--catalog", "/nowhere"), "no such folder"),
        (("build", "howto100m", "--sample", "5"), "metadata-only"),
        (("build", "common-voice-17-mozilla"), "take common-voice-17 in its place"),
        (("build", "."), "a folder, no spec"),
        (("build", "slimorka"), "did you mean slimorca"),
        (("build", "gsm8k:mian"), "no variant 'mian'; there are: train, socratic"),
    ],
)
def test_bad_input_is_told(shardkit: Command, arguments: tuple[str, ...], told: str) -> None:
    outcome = shardkit(*arguments)
    assert outcome.code == 2
    assert told in outcome.err


def test_build_of_an_entry(shardkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text(ENTRY.replace("ROOT", str(tmp_path)))
    (tmp_path / "rows.jsonl").write_bytes(
        b"".join(msgspec.json.encode({"text": f"row {at}"}) + b"\n" for at in range(9))
    )
    outcome = shardkit("build", "mine", "--sample", 5, "--catalog", own, "--workers", 0, "--json")
    done = json.loads(outcome.out.splitlines()[-1])
    assert (outcome.code, done["samples"], done["dead_letters"]) == (0, 5, 0)
    assert (tmp_path / "data" / "mine-sample-5" / "manifest.json").is_file()
