"""Folders: order, links, media and text, changes since the plan, what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import SourceChanged, SourceFailed, SpecError
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.listing import CHUNK_BYTES, LISTING
from shardkit.sources.patterns import selector
from shardkit.sources.table import open_source
from shardkit.sources.walk import walk
from shardkit.spec import FilesSource, Limits
from tests.sources.kinds import Opened, texts


def spec(path: Path | str, **fields: object) -> FilesSource:
    return FilesSource(name="here", path=str(path), normalizer="plain_text", **fields)  # type: ignore[arg-type]


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"in {name}")
    return folder


@given(st.sets(st.text("ab.-/é", min_size=1, max_size=6), max_size=8))
@settings(max_examples=60)
def test_walk_is_in_the_order_of_the_bytes_of_whole_paths(names: set[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            clean = "/".join(part for part in name.split("/") if part.strip("."))
            if clean and not (Path(folder) / clean).exists():
                try:
                    fill(Path(folder), clean)
                except (NotADirectoryError, FileExistsError):
                    continue
        found = [path for path, _ in walk(folder, lambda _: True, "here")]
        there = [os.fsencode(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()]
        assert found == sorted(there)


def test_files_become_text_or_media(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    (tmp_path / "in").mkdir()
    for name, content in {
        "a.md": b"\xef\xbb\xbfhi\r\n",
        "b.PNG": b"p",
        "c.flac": b"f",
        "d.mp4": b"m",
        "e.bin": b"\xff",
    }.items():
        (tmp_path / "in" / name).write_bytes(content)
    rows = opened(spec(tmp_path / "in")).rows()
    assert rows[0] == Row(
        position="a.md", fields={"path": "a.md", "name": "a.md", "folder": "", "text": "\ufeffhi\r\n"}
    )
    assert [row.blobs for row in rows[1:4] if isinstance(row, Row)] == [
        {"image": b"p"},
        {"audio": b"f"},
        {"video": b"m"},
    ]
    assert isinstance(rows[4], BadRow)
    assert rows[4].reason == "not-utf8"


def test_one_file_is_a_source_too(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    [row] = opened(spec(fill(tmp_path, "a.txt") / "a.txt")).rows()
    assert row.position == "a.txt"


def test_patterns_and_sizes_choose_files(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    fill(
        tmp_path / "in",
        "a.py",
        "sub/b.py",
        "sub/deep/c.py",
        "sub/d.txt",
        "test/e.py",
        "f.py",
        ".git/g.py",
        "__pycache__/h.py",
    )
    (tmp_path / "in" / "f.py").write_text("")
    (tmp_path / "in" / "long.py").write_text("x" * 100)
    chosen = opened(spec(tmp_path / "in", include=("**/*.py",), exclude=("test/**",), max_bytes=99))
    assert [row.position for row in chosen.rows()] == ["a.py", "sub/b.py", "sub/deep/c.py"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a/b", True), ("*", "a/b", False), ("*.py", "a.py", True), ("*.py", "sub/a.py", False),
        ("**/*.py", "a.py", True), ("**/*.py", "x/y/a.py", True), ("a/**", "a/b/c", True), ("a/**", "ab/c", False),
        ("?.md", "é.md", True), ("[a-c]x", "bx", True), ("[!a-c]x", "bx", False), ("[!a-c]x", "dx", True),
        ("a.c", "abc", False), ("a/**/b", "a/b", True), ("a/**/b", "a/x/y/b", True), ("**/*.md", "new\nline.md", True),
    ],
)  # fmt: skip
def test_pattern_matches(pattern: str, path: str, matches: bool) -> None:
    assert selector((pattern,), (), "here")(path) is matches


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../b", "[z-a]"])
def test_impossible_pattern_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="source here: pattern"):
        open_source(spec(fill(tmp_path / "in", "a"), include=(pattern,)), 0).pin(tmp_path / "private")


def test_links_that_lead_outside_are_not_followed(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    fill(tmp_path, "secret.txt", "out/a.txt")
    folder = fill(tmp_path / "in", "real.txt")
    (folder / "inside.txt").symlink_to("real.txt")
    (folder / "outside.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up.txt").symlink_to("../secret.txt")
    (folder / "folder").symlink_to(tmp_path / "out")
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    assert texts(opened(spec(folder)).rows()) == ["in real.txt", "in real.txt"]


def test_name_that_is_not_utf8_is_shown_escaped(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = fill(tmp_path / "in", "a.txt")
    Path(os.fsdecode(os.fsencode(folder) + b"/b\xff.txt")).write_text("odd")
    assert [row.position for row in opened(spec(folder)).rows()] == ["a.txt", "b\\xff.txt"]


@pytest.mark.parametrize("change", ["same size", "longer", "gone"])
def test_file_that_changed_since_planned_stops_the_lane(
    change: str, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    source = opened(spec(fill(tmp_path / "in", "a.txt", "b.txt")))
    target = tmp_path / "in" / "b.txt"
    if change == "gone":
        target.unlink()
    else:
        target.write_text("IN b.txt" if change == "same size" else "in b.txt!")
    rows = source.source.rows(source.folder, 0, 1, None)
    assert next(rows).row.position == "a.txt"
    with pytest.raises(SourceChanged, match=r"source here: b\.txt changed since planned"):
        next(rows)


def test_every_byte_of_a_large_file_is_checked(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    (tmp_path / "in").mkdir()
    data = bytearray(os.urandom(2 * CHUNK_BYTES + 5))
    (tmp_path / "in" / "a.png").write_bytes(data)
    source = opened(spec(tmp_path / "in"))
    [row] = source.rows()
    assert isinstance(row, Row)
    assert row.blobs == {"image": bytes(data)}
    for at in (0, CHUNK_BYTES, 2 * CHUNK_BYTES + 4):
        changed = bytearray(data)
        changed[at] ^= 1
        (tmp_path / "in" / "a.png").write_bytes(changed)
        with pytest.raises(SourceChanged):
            source.rows()


def test_files_beyond_the_limits_are_refused_unread(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.txt", "b.png")
    source = open_source(spec(folder), 0, Limits(member_bytes=3, text_characters=1))
    source.pin(tmp_path / "private")
    rows = [step.row for step in source.rows(tmp_path / "private", 0, 1, None)]
    assert [row.reason for row in rows if isinstance(row, BadRow)] == ["too-long", "too-big"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "there is no .*nowhere; give an existing folder"),
        ("empty", "no file matches"),
        ("/dev/null", "neither"),
    ],
)
def test_folder_without_files_is_refused(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=message):
        open_source(spec(tmp_path / path), 0).pin(tmp_path / "private")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("name", ["a.txt", "sub"])
def test_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.txt", "sub/b.txt")
    (folder / name).chmod(0)
    try:
        with pytest.raises(SpecError, match=rf"source here: cannot .* {name}/?: Permission denied; make it readable"):
            open_source(spec(folder), 0).pin(tmp_path / "private")
    finally:
        (folder / name).chmod(0o755)


def test_file_that_gives_an_error_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="source here: cannot read mem: Input/output error; make it readable"):
        open_source(spec("/proc/self/mem", min_bytes=0), 0).pin(tmp_path / "private")


def test_damaged_listing_is_noticed(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(fill(tmp_path / "in", "a.txt", "b.txt")))
    whole = (source.folder / LISTING).read_bytes()
    for length in range(len(whole)):
        (source.folder / LISTING).write_bytes(whole[:length])
        with pytest.raises(SourceFailed, match=r"listing under \.build is missing or damaged"):
            source.rows()


def test_standard_library_is_text_without_its_tests(opened: Callable[..., Opened]) -> None:
    source = opened(FilesSource(name="s", path="python:stdlib", include=("**/*.py",), normalizer="repository_file"))
    rows = source.rows()
    assert len(rows) > 300
    assert {row.position for row in rows} >= {"json/decoder.py", "heapq.py"}
    folders = {part for row in rows for part in row.position.split("/")[:-1]}
    assert not folders & {"test", "tests", "site-packages", "__pycache__"}


def test_real_folders(shared: Path, opened: Callable[..., Opened]) -> None:
    documents = opened(spec(shared / "documents", include=("**/*.md",))).rows()
    assert len(documents) == 20
    assert all(isinstance(row, Row) and len(row.fields["text"]) > 1000 for row in documents)
    prompts = opened(spec(shared / "audio" / "prompts")).rows()
    assert [row.blobs["audio"][:4] for row in prompts if isinstance(row, Row)] == [b"RIFF"] * 25


def test_datasets_in_a_folder_are_left_out(tmp_path: Path) -> None:
    for name in ("own.txt", "data/x/.build/lock", "data/x/shards/ab/cd.tar", "data/x.txt", "y/.build/other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    found = [relative for relative, _ in walk(str(tmp_path), lambda _: True, "here")]
    assert found == [b"data/x.txt", b"own.txt", b"y/.build/other"]
