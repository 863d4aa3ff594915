"""What is streamed through `datasets`: in processes of its own, since it takes its endpoint when it is imported."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.servers.hub import TOKEN, Hub, hub_server
from tests.sources.hub.repositories import LINES, NAME, parquet

pytest.importorskip("datasets")

PROGRAM = """
import json, sys
from pathlib import Path
from shardkit.errors import ShardkitError
from tests.sources.hub.repositories import Opened, spec

for number, (fields, partitions) in enumerate(json.loads(sys.argv[1])):
    try:
        source = Opened(spec(**{"reader": "datasets", **fields}), Path(sys.argv[2]) / str(number))
        parts = [source.steps(partition, partitions) for partition in range(partitions)]
        for partition, steps in enumerate(parts):
            for at, step in enumerate(steps):
                stored = json.loads(json.dumps(step.cursor))
                rest = source.steps(partition, partitions, stored)
                assert [s.row for s in rest] == [s.row for s in steps[at + 1 :]], (fields, at)
                if len(rest) > 2:  # and once more from where the resumed one stopped
                    again = source.steps(partition, partitions, json.loads(json.dumps(rest[1].cursor)))
                    assert [s.row for s in again] == [s.row for s in rest[2:]], (fields, at)
        rows = [[s.row.position, s.row.fields, {k: v.hex() for k, v in s.row.blobs.items()}] for p in parts for s in p]
        print(json.dumps([source.pinned.revision, source.pinned.toolchain, rows]))
    except ShardkitError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server({}) as server:
        yield server


def streamed(hub: Hub, folder: Path, *asked: tuple[dict[str, Any], int], **environment: str) -> list[Any]:
    """What each of the specs gives, with partitions, resumed at every cursor."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env = {**clean, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), **environment}
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (2, 2), shade).save(out, "png")
    return out.getvalue()


def test_rows_resume_at_every_cursor_and_media_come_undecoded(hub: Hub, tmp_path: Path) -> None:
    files = {f"train/{number}.jsonl": b"".join(LINES.splitlines(True)[: number + 1]) for number in range(1, 4)}
    commit = hub.commit(NAME, files)
    images = [{"bytes": png(at), "path": f"{at}.png"} for at in range(5)]
    pictures = [{"question": "?", "answer": "y", "image": image} for image in images]
    hub.commit("owner/pictures", {"data/train-00000-of-00001.parquet": parquet(pictures, group=3)})
    captions = "".join(json.dumps({"file_name": f"{at}.png", "question": f"{at}?"}) + "\n" for at in range(3))
    folder = {f"train/{at}.png": png(at) for at in range(3)} | {"train/metadata.jsonl": captions.encode()}
    hub.commit("owner/folder", folder)
    hub.gated.add("owner/folder")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in folder.items():
            archive.writestr(name.removeprefix("train/"), data)
    hub.commit("owner/packed", {"train.zip": packed.getvalue()})
    one, three, four, shown, found, unpacked = streamed(
        hub, tmp_path,
        ({}, 1), ({}, 3), ({}, 4), ({"dataset": "owner/pictures"}, 2), ({"dataset": "owner/folder"}, 1),
        ({"dataset": "owner/packed"}, 1),
        HF_TOKEN=TOKEN,
    )  # fmt: skip
    assert one[0] == commit
    assert list(one[1]) == ["datasets"]
    lines = [json.loads(line) for path in sorted(files) for line in files[path].splitlines()]
    assert [row[1] for row in one[2]] == lines
    assert one[2][0][0] == "default/train:1"
    for parts in (three, four):
        key = json.dumps
        assert sorted(key(row[1:]) for row in parts[2]) == sorted(key(row[1:]) for row in one[2])
        assert len({row[0] for row in parts[2]}) == len(parts[2])
    assert sorted(row[2]["image"] for row in shown[2]) == sorted(png(at).hex() for at in range(5))
    for rows in (found[2], unpacked[2]):
        assert [(row[1]["question"], row[2]["image"]) for row in rows] == [(f"{at}?", png(at).hex()) for at in range(3)]


def test_what_cannot_be_streamed_is_said(hub: Hub, tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  data_files: a.jsonl\n---\n"
    hub.commit(NAME, {"README.md": card, "a.jsonl": LINES})
    hub.commit("owner/broken", {"train.jsonl": '{"question": "a"\n{"question": 3}'})
    hub.commit("owner/program", {"program.py": "1", "x.jsonl": LINES})
    found = streamed(
        hub, tmp_path,
        ({}, 1), ({"config": "c"}, 1), ({"config": "a", "split": "test"}, 1), ({"dataset": "owner/broken"}, 1),
        ({"dataset": "owner/program"}, 1), ({"dataset": "owner/none"}, 1), ({"endpoint": "http://127.0.0.1:9/x"}, 1),
        HF_TOKEN=TOKEN,
    )  # fmt: skip
    for (_, message), wanted in zip(found, (
        "has several configs and no default; there are: a, b",
        "has no config 'c'; there are: a, b",
        "has no split 'test'; there are: train",
        "datasets cannot read owner/broken (",
        "is loaded by a program of its own, program.py",
        "owner/none does not exist on the Hub",
        "cannot be reached",
    ), strict=True):  # fmt: skip
        assert wanted in message


def test_auto_takes_datasets_only_for_what_is_not_read_here(hub: Hub, tmp_path: Path) -> None:
    strange = "---\nconfigs:\n- config_name: a\n  data_files: a.csv\n  skiprows: 1\n---\n"
    hub.commit(NAME, {"README.md": strange, "a.csv": "junk\nquestion,answer\n1,2\n"})
    hub.commit("owner/object", {"train.json": '{"question": ["1", "2"],\n "answer": ["3", "4"]}'})
    skipped, named = streamed(
        hub, tmp_path, ({"reader": "auto"}, 1), ({"reader": "auto", "dataset": "owner/object"}, 1)
    )
    assert [row[1] for row in skipped[2]] == [{"question": 1, "answer": 2}]
    assert named
