"""What is fuzzed between the bytes of a source and a draft: files of records, archives, answers of servers, any row.

Here: these targets and their seeds. Where a source can go on behind a cursor it must give the rest, whatever it reads.
Elsewhere: what shardkit stores itself (targets.py), feeding all of them (engine.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

from shardkit.errors import ShardkitError
from shardkit.records.normalize import normalize
from shardkit.records.normalize.columns import ROWS
from shardkit.records.normalize.door import COMMON_ROLES, check_normalizer
from shardkit.records.normalize.table import NORMALIZERS, Normalizer
from shardkit.records.normalize.tree import TREE_ROLES
from shardkit.records.row import Draft, Row
from shardkit.records.rules.apply import apply_rules
from shardkit.records.rules.patterns import find_personal, find_secrets, redact
from shardkit.sources.compressed import damage_named
from shardkit.sources.hub.card import read_card
from shardkit.sources.hub.layout import Unknown, choose_config, choose_files
from shardkit.sources.kaggle import NoZip, unzipped
from shardkit.sources.table import open_source
from shardkit.spec import BuildSpec, Limits, Rules, SourceSpec, convert_spec
from shardkit.store.hub import HubStore
from shardkit.store.kaggle import KaggleStore, Login
from shardkit.store.patience import Patience
from tools.conformance.foreign_tars import tar_of
from tools.faults.tiny import picture

Run = Callable[[bytes], object]
CANARY = b"what lies outside of the source's folder"
LIMITS = Limits()


def records(name: str, **fields: Any) -> Run:
    """Files of one kind: all rows, and behind a cursor in their midst the rest."""

    def run(data: bytes) -> None:
        folder = _fresh()
        (folder / "in").mkdir()
        (folder / "in" / name).write_bytes(data)
        _read_all({"path": str(folder / "in"), **fields}, folder, data)

    return run


def plain_rows(data: bytes) -> None:
    """Lines that name files: none outside of their folder is ever read."""
    folder = _fresh()
    root = folder / "in"
    (root / "sub").mkdir(parents=True)
    (folder / "outside.png").write_bytes(CANARY)
    (root / "a.png").write_bytes(b"a")
    (root / "leads-out.png").symlink_to(folder / "outside.png")
    (root / "up").symlink_to(folder)
    (root / "lines.jsonl").write_bytes(data)
    for row in _read_all({"kind": "plain", "path": str(root), "normalizer": "plain"}, folder, data):
        if isinstance(row, Row):
            assert CANARY not in row.blobs.values(), "a file outside of the folder was read"


def zipped(data: bytes) -> None:
    """What Kaggle packs, read as a stream."""
    try:
        with damage_named(raw := io.BytesIO(data), "a.csv", "fuzz"):
            stream = unzipped(io.BufferedReader(raw), "a.csv")
            for _ in range(64):
                if not stream.read(1 << 16):
                    break
    except NoZip as error:
        raise ShardkitError(str(error)) from None


def card(data: bytes) -> None:
    """A README of the Hub, and which files it makes a split of."""
    paths = ("data/train-00000-of-00001.parquet", "a/b.csv", "test.jsonl", "README.md")
    configs = read_card(data.decode("utf-8", "replace"))
    try:
        for config in (choose_config(configs, name) for name in ("", *(config.name for config in configs))):
            choose_files(paths, config, "train")
    except Unknown:
        raise ShardkitError("no such configuration or split") from None


def answers(data: bytes) -> None:
    """What a server answers in place of the Hub or of Kaggle."""
    address = _server(data)
    once = Patience(attempts=1)
    hub = HubStore("hf://datasets/a/b", once, commit="0" * 40, endpoint=address)
    with patch.dict(os.environ, {"KAGGLE_API_ENDPOINT": address}):
        kaggle = KaggleStore("a/b", 0, Login(), once)
    failed = 0
    tried: tuple[Callable[[], object], ...] = (
        lambda: list(hub.tree()), hub.exports, hub.info, kaggle.current_version, lambda: list(kaggle.files())
    )  # fmt: skip
    for ask in tried:
        try:
            ask()
        except ShardkitError:
            failed += 1
    if failed == len(tried):
        raise ShardkitError("none of them")


def any_row(data: bytes) -> None:
    """A row of any values through a normaliser and rules: a draft, or a refusal."""
    rng = random.Random(data)
    name, entry = rng.choice(sorted(NORMALIZERS.items()))
    spec = _spec_of(name, entry, rng)
    fields = {role: _value(rng, 3) for role in (*entry.roles, *TREE_ROLES, *COMMON_ROLES) if rng.random() < 0.8}
    if entry.gathers != ("",) and rng.random() < 0.8:
        several = [{role: _value(rng, 2) for role in entry.roles} for _ in range(rng.randrange(4))]
        fields[ROWS] = several
    blobs = {role: _MEDIA[rng.randrange(len(_MEDIA))] for role in ("image", "audio", "video") if rng.random() < 0.5}
    draft = normalize(Row(position="fuzz:1", fields=fields, blobs=blobs), spec, "r", LIMITS)
    assert isinstance(draft, Draft)
    apply_rules(draft, Rules(secrets="redact", personal="redact"))


def patterns(data: bytes) -> None:
    """Text looked through for secrets and personal data."""
    text = data.decode("utf-8", "replace")
    for find in (find_secrets, find_personal):
        found = find(text)
        assert all(0 <= one.start < one.end <= len(text) for one in found)
        assert not found or redact(text, found) != text


def _read_all(fields: dict[str, Any], folder: Path, data: bytes) -> list[Any]:
    raw = {"name": "fuzz", "normalizer": "question_answer", **fields}
    spec = convert_spec({"name": "fuzz", "sources": [raw]}, BuildSpec, "fuzz").sources[0]
    source = open_source(spec, 0, LIMITS)
    pins = folder / "pins"
    pins.mkdir()
    source.pin(pins)
    steps = []
    error: ShardkitError | None = None
    try:
        for step in source.rows(pins, 0, 1, None):
            steps.append(step)
    except ShardkitError as stopped:
        error = stopped
    if steps:
        at = hashlib.blake2b(data).digest()[0] % len(steps)
        rest = []
        try:
            for step in open_source(spec, 0, LIMITS).rows(pins, 0, 1, steps[at].cursor):
                rest.append(step)
        except ShardkitError:
            assert error is not None, "only behind a cursor it is damaged"
        assert rest == steps[at + 1 :], "the rest behind a cursor differs"
    if error is not None:
        raise error
    return [step.row for step in steps]


def _spec_of(name: str, entry: Normalizer, rng: random.Random) -> SourceSpec:
    """A spec of a normaliser with some of its options."""
    options: dict[str, Any] = {}
    for option, value in entry.options.items():
        if rng.random() < 0.5:
            choices = entry.choices.get(option) or ((True, False) if isinstance(value, bool) else (value,))
            options[option] = rng.choice(choices)
    columns = {"id": "id", "category": "category", "licence": "licence"} if rng.random() < 0.5 else {}
    raw = {"kind": "jsonl", "path": "", "name": "fuzz", "normalizer": name, "options": options, "columns": columns}
    ways: dict[str, Any] = {"by": {"by": "id"}, "tree": {"tree": True}, "siblings": {"tree": True, "siblings": True}}
    way = rng.choice(entry.gathers)
    spec = convert_spec({"name": "fuzz", "sources": [raw | ({"gather": ways[way]} if way else {})]}, BuildSpec, "fuzz")
    check_normalizer(spec.sources[0])
    return spec.sources[0]


_WORDS = (
    "", " ", "\n", "user", "assistant", "system", "human", "gpt", "tool", "content", "role", "value", "from", "text",
    "A", "B", "0", "1", "-1", "3", "4", "N/A", "[]", "['a', 'b']", "{'a': 1}", "[" * 200, "(A) x\n(B) y", "None",
    "\n\nHuman: hi\n\nAssistant: there", "<image>", "<|image|>", "<|image|><|image|>", "\ud800", "\0", "x" * 300,
    "#### 4", "<<1+1=2>>2", "```py\nx\n```", "a.png", "https://a.b/c", "safe", "chosen", "mit", "1e999", "９", "²",
)  # fmt: skip
_SCALARS = (None, True, False, 0, 1, 2, -1, 4, 10**30, 0.5, -0.0, float("inf"), float("nan"), 1e308)
_KEYS = (
    "role", "content", "from", "value", "text", "bytes", "path", "image", "id", "type", "label", "answer", "choices",
    "message_id", "parent_id", "rank", "score", "rating", "response", "models", "annotations", "Rating", "tool_calls",
    "chosen", "rejected", "modality", "blob", "prompt", "completions", "options", "function", "name", "arguments",
)  # fmt: skip
_MEDIA = (b"", b"x", picture(1), b"\xff\xd8\xff", b"RIFF\0\0\0\0WAVE", b"{}", b'{"id": "a", "messages": []}')


def _value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(10 if depth else 6)
    if kind < 4:
        return rng.choice(_WORDS)
    if kind < 6:
        return rng.choice(_SCALARS)
    if kind == 6:
        return {rng.choice(_KEYS): _value(rng, depth - 1) for _ in range(rng.randrange(5))}
    if kind == 7:
        return [{"role": rng.choice(_WORDS[3:9]), "content": _value(rng, depth - 1)} for _ in range(rng.randrange(5))]
    return [_value(rng, depth - 1) for _ in range(rng.randrange(5))]


@lru_cache
def _scratch() -> Path:
    memory = Path("/dev/shm")
    holder = tempfile.TemporaryDirectory(prefix="shardkit-fuzz-", dir=memory if memory.is_dir() else None)
    _holders.append(holder)
    return Path(holder.name)


_holders: list[tempfile.TemporaryDirectory[str]] = []


def _fresh() -> Path:
    """An empty folder, the same each time."""
    folder = _scratch() / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


class _Answer(BaseHTTPRequestHandler):
    """Gives everybody who asks the same bytes."""

    body = b""
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet

    def do_GET(self) -> None:
        """The bytes."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@lru_cache
def _listening() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def _server(data: bytes) -> str:
    """The address of a server that answers everything with `data`."""
    _Answer.body = data
    return _listening()


def _lines() -> list[bytes]:
    rows = [{"question": "a", "answer": "é\n"}, {"question": '"', "answer": [1, {"b": None}]}]
    return [b"".join(json.dumps(row).encode() + b"\n" for row in rows), b"\xef\xbb\xbf{}\r\n\n[]\n"]


def _lists() -> list[bytes]:
    rows = [{"question": "a]", "answer": '\\"{'}, {"x": [[], {}]}, 3]
    whole = json.dumps(rows).encode()
    return [
        whole,
        b'{"a": [1], "data": ' + whole + b', "b": {}}',
        b"\xef\xbb\xbf [ ]",
        json.dumps(rows, indent=1).encode(),
    ]


def _csv() -> list[bytes]:
    return [
        b'question,answer\r\n"a ""b""\n,c",d\r\n\r\ne,f\r\n',
        b"\xef\xbb\xbfquestion,answer\n1,2\n3\n",
        b'question,answer\na,"b\n',
    ]


def _plain() -> list[bytes]:
    said = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "a"}]
    names = [
        "a.png",
        "sub/../a.png",
        "../outside.png",
        "leads-out.png",
        "up/outside.png",
        "/etc/passwd",
        "file://a.png",
    ]
    rows = [{"messages": said, "images": [name]} for name in names]
    listed = {"messages": said, "modalities": {"image": [{"path": "a.png", "type": "photo"}], "audio": "x"}}
    return [json.dumps(row).encode() + b"\n" for row in (*rows, listed)]


def _tars() -> list[bytes]:
    one = tar_of([("a.txt", b"x" * 600), ("a.json", b'{"question": "q"}'), ("b/c.txt", b"y"), ("b/c.png", b"z")])
    return [one, one[:-1024], tar_of([("a.json", b"["), ("a.txt", b"\xff")])]


def _zips() -> list[bytes]:
    made = []
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", way) as archive:
            archive.writestr("a.csv", b"question,answer\n" * 50)
            archive.writestr("b/a.txt", b"no")
        made.append(out.getvalue())
    return [*made, b"question,answer\n"]


def _cards() -> list[bytes]:
    given = (
        "configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: data/*\n  default: true",
        "a: &a [x]\nconfigs:\n- {config_name: 1, data_files: *a, sep: ';'}",
        "configs:\n- {config_name: b, data_dir: data, data_files: {train: ['**', 'a/[b].csv']}}",
    )
    return [b"---\n" + text.encode() + b"\n---\nbody\n" for text in given] + [b""]


def _answers() -> list[bytes]:
    tree = [{"type": "file", "path": "a/b.csv", "size": 3, "oid": "0" * 40, "lfs": {"oid": "1" * 64}}]
    info = {"id": "a/b", "sha": "0" * 40, "gated": False}
    kaggle = {"currentVersionNumber": 3, "datasetFiles": [{"name": "a.csv", "totalBytes": 3}], "nextPageToken": ""}
    return [json.dumps(one).encode() for one in (tree, info, kaggle, {"default": {"train": ["https://a/b"]}})]


def _secrets() -> list[bytes]:
    return [
        b"key AKIAABCDEFGHIJKLMNOP and ghp_" + b"aB3" * 12,
        b"eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4fwpMeJ",
        b"api_key = 'aB3dE6gH9jK2mN5pQ8sT' a.b@corp.io +49 30 1234567 4111 1111 1111 1111 DE89 3704 0044 0532 0130 00",
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA0Z3\n-----END RSA PRIVATE KEY-----",
    ]


ROW_TARGETS: dict[str, tuple[Run, Callable[[], list[bytes]]]] = {
    "jsonl": (records("a.jsonl", kind="jsonl"), _lines),
    "json-list": (records("a.json", kind="json"), _lists),
    "csv": (records("a.csv", kind="csv"), _csv),
    "tar-rows": (records("a.tar", kind="shards"), _tars),
    "plain-rows": (plain_rows, _plain),
    "zipped": (zipped, _zips),
    "card": (card, _cards),
    "answers": (answers, _answers),
    "any-row": (any_row, lambda: [str(number).encode() for number in range(200)]),
    "patterns": (patterns, _secrets),
}
"""By name: what is run on bytes, and inputs from which mutation begins."""
