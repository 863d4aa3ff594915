"""Folders of media with texts beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit import open_dataset
from shardkit.errors import Refused
from shardkit.records.normalize import normalize
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.listing import Entry
from shardkit.sources.sidecars import subtitle_words, with_sidecars
from shardkit.spec import FilesSource
from tests.build.making import run_command, save_spec, spec_of
from tests.sources.kinds import Opened
from tests.sources.test_http import PNG


def spec(path: Path, **fields: object) -> FilesSource:
    common = {"name": "here", "path": str(path), "normalizer": "sidecar", "sidecars": "optional"}
    return FilesSource(**{**common, **fields})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files: dict[str, bytes] = {
        "cats/a.png": PNG, "cats/a.txt": "\ufeffA cat.\n".encode(), "cats/a.json": b'{"licence": "cc0", "path": "x"}',
        "cats/a-2.png": PNG, "cats/b.PNG": PNG, "cats/b.Caption": b"Another.", "dogs/c.png": PNG,
        "dogs/d.png": PNG, "dogs/d.txt": b"\xff", "dogs/e.png": PNG, "dogs/e.json": b"[]",
        "says/f.wav": b"RIFF", "says/f.srt": b"1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i>\nthere\n\n2\n"
        b"00:00:03,000 --> 00:00:04,000\nBye\n",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def test_media_come_with_what_lies_beside_them(folder: Path, opened: Callable[..., Opened]) -> None:
    rows = {row.position: row for row in opened(spec(folder, category_from_folder=True)).rows()}
    seen = {
        path: (row.fields.get("text"), row.fields["category"]) if isinstance(row, Row) else row.reason
        for path, row in rows.items()
    }
    assert seen == {
        "cats/a-2.png": (None, "cats"), "cats/a.png": ("A cat.", "cats"), "cats/b.PNG": ("Another.", "cats"),
        "dogs/c.png": (None, "dogs"), "dogs/d.png": "not-utf8", "dogs/e.png": "not-json",
        "says/f.wav": ("Hello there\nBye", "says"),
    }  # fmt: skip
    first = rows["cats/a.png"]
    assert isinstance(first, Row)
    assert (first.fields["licence"], first.fields["path"]) == ("cc0", "cats/a.png")


def test_without_text_media_are_unlabelled_or_refused(folder: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(folder))
    rows = {row.position: row for row in source.rows() if isinstance(row, Row)}
    assert normalize(rows["dogs/c.png"], source.spec, "r").messages == ()
    told = normalize(rows["cats/a.png"], source.spec, "r").messages
    assert [message.content for message in told] == ["<|image|>\nDescribe this image.", "A cat."]
    required = {row.position: row for row in opened(spec(folder, sidecars="required")).rows()}
    bare = required["dogs/c.png"]
    assert isinstance(bare, BadRow)
    assert (bare.reason, bare.detail) == ("missing-field", "no text of the same name lies beside it")
    with pytest.raises(Refused, match="empty-text"):
        normalize(Row(position="x", fields={"text": " "}, blobs={"image": PNG}), source.spec, "r")


@pytest.mark.parametrize("partitions", [1, 2, 3])
def test_cursors_and_partitions(partitions: int, folder: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(folder))
    whole = [row.position for row in source.rows()]
    covered = []
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        covered += [step.row.position for step in steps]
        for at, step in enumerate(steps):
            assert source.steps(partition, partitions, json.loads(json.dumps(step.cursor))) == steps[at + 1 :]
    assert sorted(covered) == whole


def test_build_through_the_command(folder: Path, tmp_path: Path) -> None:
    source = {"kind": "files", "name": "pets", "path": str(folder / "cats"), "normalizer": "sidecar",
              "sidecars": "required", "category_from_folder": True, "media_type": "photo"}  # fmt: skip
    ended = run_command(
        "build", save_spec(tmp_path / "s.yaml", spec_of(source)), "--out", tmp_path / "out", "--sample", "5"
    )
    assert ended.returncode == 0, ended.stderr
    assert [item.sample.messages[-1].content for item in open_dataset(str(tmp_path / "out"))] == ["A cat.", "Another."]


@given(
    st.sets(
        st.tuples(st.sampled_from(["a", "a-b", "a.b", ".a", "A", "é"]), st.sampled_from(["jpg", "txt", "json", "PNG"]))
    )
)
@settings(max_examples=200)
def test_any_names_are_matched_by_their_stems(names: set[tuple[str, str]]) -> None:
    paths = sorted(f"d/{stem}.{suffix}".encode() for stem, suffix in names)
    entries = [Entry(path, 1, b"x") for path in paths]
    found = list(with_sidecars(entries, lambda entry: entry.path.endswith((b".jpg", b".PNG"))))
    assert [paths[file.number] for file in found] == [path for path in paths if path.endswith((b".jpg", b".PNG"))]
    for file in found:
        stem = file.entry.path.rpartition(b".")[0]
        beside = {path for path in paths if path in (stem + b".txt", stem + b".json")}
        assert {entry.path for entry in file.sidecars.values()} == beside


def test_subtitles_without_numbers_are_read_too() -> None:
    assert subtitle_words("00:00:01.0 --> 00:00:02.0 x\r\n{\\an8}One\r\n\r\n\r\nTwo <b>x</b> < 3") == "One\nTwo x < 3"
