"""Bad input: each a clear message that says what was found and what to do, the right exit code, no traceback."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image

from shardkit.store.http import Patience
from tests.cli.conftest import Command

WriteSpec = Callable[..., Path]
TEXT = "kind: files, normalizer: plain_text, path: {path}"
MEDIA = "kind: files, normalizer: unlabelled, media_type: {type}, path: {path}"
LINES = "kind: jsonl, normalizer: question_answer, path: {path}"


def build(shardkit: Command, spec: Path, out: Path, *more: str) -> tuple[int, str]:
    outcome = shardkit("build", spec, "--out", out, "--workers", 0, *more)
    return outcome.code, outcome.err


def refused(shardkit: Command, out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(shardkit("stats", out, "--json").out)["refused"]
    return found


def png(width: int = 8, height: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "png")
    return buffer.getvalue()


def test_unknown_field_is_named(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    code, err = build(shardkit, write_spec(TEXT.format(path=".") + ", pth: x"), tmp_path / "out")
    assert code == 2
    assert "unknown field `pth`" in err
    assert not (tmp_path / "out").exists()


def test_missing_folder_is_named(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    code, err = build(shardkit, write_spec(TEXT.format(path=tmp_path / "absent")), tmp_path / "out")
    assert code == 2
    assert "absent" in err


def test_empty_source_is_named(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, err = build(shardkit, write_spec(TEXT.format(path=tmp_path / "empty")), tmp_path / "out")
    assert code == 2
    assert "only" in err


def test_read_only_target_is_named(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("words")
    (tmp_path / "file").write_text("in the way")
    code, err = build(shardkit, write_spec(TEXT.format(path=tmp_path / "docs")), tmp_path / "file" / "out")
    assert code in (1, 2)
    assert str(tmp_path / "file") in err
    code, err = build(shardkit, write_spec(TEXT.format(path=tmp_path / "docs")), Path("/proc/out"))
    assert code in (1, 2)
    assert "/proc/out" in err


def test_line_that_is_not_json_is_a_dead_letter(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"question": "q", "answer": "a"}\nnot json\n{"question": "r"}\n')
    code, _ = build(shardkit, write_spec(LINES.format(path=lines)), tmp_path / "out")
    assert code == 0
    assert refused(shardkit, tmp_path / "out") == {"missing-field": 1, "not-json": 1}


def test_truncated_gz_is_named_and_nothing_is_published(
    shardkit: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    rows = b"".join(b'{"question": "q%d", "answer": "a%d"}\n' % (n, n * 7919) for n in range(2000))
    lines = tmp_path / "rows.jsonl.gz"
    lines.write_bytes(gzip.compress(rows)[:-2000])
    code, err = build(shardkit, write_spec(LINES.format(path=lines)), tmp_path / "out")
    assert code in (1, 2, 3)
    assert "rows.jsonl.gz" in err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_truncated_parquet_is_named(shardkit: Command, write_spec: WriteSpec, tmp_path: Path) -> None:
    table = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"question": ["q"] * 50, "answer": ["a"] * 50}), table)
    table.write_bytes(table.read_bytes()[:-100])
    spec = write_spec(f"kind: parquet, normalizer: question_answer, path: {table}")
    code, err = build(shardkit, spec, tmp_path / "out")
    assert code in (1, 2, 3)
    assert "rows.parquet" in err


def flac() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(16000) / 9).astype("float32"), 16000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, "jpeg")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 65,535 x 65,535 pixels in some hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "data", "type_", "reason"),
    [
        ("cut.jpg", jpeg()[:-400], "photo", "image-damaged"),
        ("cut.flac", flac()[:-4000], "speech", "audio-damaged"),
        ("bomb.png", bomb(), "photo", "too-many-pixels"),
    ],
)
def test_bad_medium_is_a_dead_letter_with_its_reason(
    shardkit: Command, write_spec: WriteSpec, tmp_path: Path, name: str, data: bytes, type_: str, reason: str
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / name).write_bytes(data)
    good = {"photo": ("good.png", png()), "speech": ("good.flac", flac())}[type_]
    (folder / good[0]).write_bytes(good[1])
    code, _ = build(shardkit, write_spec(MEDIA.format(type=type_, path=folder)), tmp_path / "out")
    assert code == 0
    assert refused(shardkit, tmp_path / "out") == {reason: 1}


def test_truncated_film_is_a_dead_letter(
    shardkit: Command, write_spec: WriteSpec, tmp_path: Path, shared_data: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    whole = (shared_data / "video" / "nasa_13013.mp4").read_bytes()
    (folder / "whole.mp4").write_bytes(whole)
    (folder / "cut.mp4").write_bytes(whole[:-200_000])
    code, _ = build(shardkit, write_spec(MEDIA.format(type="footage", path=folder)), tmp_path / "out")
    assert code == 0
    assert refused(shardkit, tmp_path / "out") == {"video-damaged": 1}


def test_second_builder_fails_at_once_and_names_the_first(
    shardkit: Command, write_spec: WriteSpec, tmp_path: Path
) -> None:
    spec = write_spec("kind: generated, generator: notes, count: 200000, normalizer: question_answer")
    command = [sys.executable, "-m", "shardkit", "build", str(spec), "--out", str(tmp_path / "out"), "--workers", "0"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "out" / ".build" / "plan.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        code, err = build(shardkit, spec, tmp_path / "out")
    finally:
        first.kill()
        first.wait()
    assert code == 1
    assert f"pid {first.pid}" in err


def test_folder_that_is_no_dataset_is_named(shardkit: Command, tmp_path: Path) -> None:
    for command in ("stats", "verify", "report"):
        outcome = shardkit(command, tmp_path)
        assert outcome.code == 2
        assert str(tmp_path) in outcome.err


class Dying(http.server.BaseHTTPRequestHandler):
    """Promises a manifest, sends half of it and hangs up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "500")
        self.end_headers()
        self.wfile.write(b'{"format":1')
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dying_url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/data"
    server.shutdown()
    server.server_close()


def test_url_that_dies_half_way_is_named(shardkit: Command, dying_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = Patience(deadline_seconds=2.0, attempts=3)
    monkeypatch.setattr("shardkit.store.http.Patience", lambda: impatient)
    outcome = shardkit("stats", dying_url)
    assert outcome.code in (1, 4)
    assert dying_url in outcome.err


def test_url_that_is_no_dataset_is_named(shardkit: Command, tmp_path: Path) -> None:
    from shardkit.read.serve import serve_folder

    (tmp_path / "index.html").write_text("<p>hello")
    with serve_folder(tmp_path) as server:
        outcome = shardkit("stats", server.url)
    assert outcome.code == 2
    assert server.url in outcome.err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("build",), "SPEC"),
        (("build", "x.yaml", "--sample", "0"), "x.yaml"),
        (("build", "x.yaml", "--set", "novalue"), "name=value"),
        (("bild",), "No such command"),
        (("verify", "gopher://host/x"), "gopher"),
    ],
)
def test_wrong_usage_is_explained(shardkit: Command, arguments: tuple[str, ...], wanted: str) -> None:
    outcome = shardkit(*arguments)
    assert outcome.code == 2
    assert wanted in outcome.err


def test_empty_name_of_a_target_is_refused(shardkit: Command, write_spec: WriteSpec) -> None:
    outcome = shardkit("build", write_spec(TEXT.format(path=".")), "--out", "")
    assert outcome.code == 2
    assert "--out" in outcome.err


def test_name_in_a_message_cannot_steer_the_terminal(shardkit: Command, tmp_path: Path) -> None:
    outcome = shardkit("stats", tmp_path / "a\x1b[2Jb")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err
    assert "\\x1b[2Jb" in outcome.err
