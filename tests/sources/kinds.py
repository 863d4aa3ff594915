"""Tiny real sources of every kind, made in a temporary folder."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Source, Step
from shardkit.sources.table import open_source
from shardkit.spec import (
    AnySource,
    CsvSource,
    FilesSource,
    GeneratedSource,
    GitSource,
    JsonlSource,
    JsonSource,
    ParquetSource,
)

LINES = [json.dumps({"question": f"{number}?" + "x" * number, "answer": "é\n"}) for number in range(11)]


def git(folder: Path, *arguments: str) -> str:
    identity = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=/dev/null",
    ]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str | bytes], message: str = "x") -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, {f"src/part{number}/file{number}.py": f"x = {number}\n" * 10 for number in range(6)})
    return folder


def in_files(tmp: Path) -> AnySource:
    for number in range(7):
        target = tmp / "in" / f"d{number % 3}" / f"f{number}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"text {number}")
    return FilesSource(name="s", path=str(tmp / "in"), normalizer="plain_text")


def in_one_jsonl(tmp: Path) -> AnySource:
    (tmp / "one.jsonl").write_text(
        "\n".join([*LINES[:4], "", "broken", *LINES[4:]]), "utf-8"
    )  # no line feed at the end
    return JsonlSource(name="s", path=str(tmp / "one.jsonl"), normalizer="question_answer")


def in_gz(tmp: Path) -> AnySource:
    (tmp / "one.jsonl.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    return JsonlSource(name="s", path=str(tmp / "one.jsonl.gz"), normalizer="question_answer")


def in_zst(tmp: Path) -> AnySource:
    frames = [zstandard.compress(("\n".join(LINES[at : at + 3]) + "\n").encode()) for at in range(0, len(LINES), 3)]
    (tmp / "one.jsonl.zst").write_bytes(b"".join(frames))
    return JsonlSource(name="s", path=str(tmp / "one.jsonl.zst"), normalizer="question_answer")


def in_many_jsonl(tmp: Path) -> AnySource:
    (tmp / "many" / "sub").mkdir(parents=True)
    (tmp / "many" / "a.jsonl").write_text("\n".join(LINES[:3]) + "\n")
    (tmp / "many" / "b.ndjson").write_text("\n".join(LINES[3:5]))
    (tmp / "many" / "sub" / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(LINES[5:9]).encode()))
    (tmp / "many" / "z.jsonl.zst").write_bytes(zstandard.compress("\n".join(LINES[9:]).encode()))
    return JsonlSource(name="s", path=str(tmp / "many"), normalizer="question_answer")


RECORDS = [["id", "question", "answer"], *([str(at), f'"{at}"\r\n?' + "é" * at, "a,b"] for at in range(11))]


def csv_text(rows: list[list[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def in_csv(tmp: Path) -> AnySource:
    (tmp / "one.csv").write_bytes(b"\xef\xbb\xbf" + csv_text(RECORDS) + b"\r\nonly one field\r\nlast,1,2")
    return CsvSource(name="s", path=str(tmp / "one.csv"), normalizer="question_answer")


def in_many_csv(tmp: Path) -> AnySource:
    (tmp / "many").mkdir()
    (tmp / "many" / "a.csv").write_bytes(csv_text(RECORDS[:4]))
    (tmp / "many" / "b.csv.gz").write_bytes(gzip.compress(csv_text(RECORDS[:1] + RECORDS[4:9])))
    (tmp / "many" / "c.tsv").write_text("question\tanswer\nq\ta\n")
    return CsvSource(name="s", path=str(tmp / "many"), normalizer="question_answer")


def in_json(tmp: Path) -> AnySource:
    (tmp / "one.json").write_text("[" + ",\n".join([*LINES[:4], "7", *LINES[4:]]) + "]\n", "utf-8")
    return JsonSource(name="s", path=str(tmp / "one.json"), normalizer="question_answer")


def in_many_json(tmp: Path) -> AnySource:
    (tmp / "many").mkdir()
    (tmp / "many" / "a.json").write_text(
        '{"version": {"data": [1]}, "data": [' + ",".join(LINES[:6]) + '], "more": "]"}'
    )
    (tmp / "many" / "b.json.zst").write_bytes(zstandard.compress(f"[{','.join(LINES[6:])}]".encode()))
    return JsonSource(name="s", path=str(tmp / "many"), normalizer="question_answer")


def in_parquet(tmp: Path) -> AnySource:
    import pyarrow
    import pyarrow.parquet

    (tmp / "pq").mkdir()
    for name, first, count in (("a.parquet", 0, 7), ("b.parquet", 7, 43)):
        numbers = range(first, first + count)
        table = pyarrow.table({
            "question": [f"{number}?" for number in numbers],
            "answer": ["yes" for _ in numbers],
            "unread": list(numbers),
            "image": [{"bytes": bytes([number]), "path": f"{number}.png"} for number in numbers],
        })  # fmt: skip
        pyarrow.parquet.write_table(table, tmp / "pq" / name, row_group_size=6 if count == 7 else 20)
    return ParquetSource(name="s", path=str(tmp / "pq"), normalizer="question_answer")


def in_git(tmp: Path) -> AnySource:
    return GitSource(name="s", url=str(repository(tmp / "repo")), normalizer="repository_file")


def in_generator(tmp: Path) -> AnySource:
    return GeneratedSource(name="s", generator="notes", count=9, normalizer="question_answer")


KINDS: dict[str, Callable[[Path], AnySource]] = {
    "files": in_files,
    "one plain jsonl": in_one_jsonl,
    "one gz": in_gz,
    "one zst": in_zst,
    "many jsonl": in_many_jsonl,
    "one csv": in_csv,
    "many csv": in_many_csv,
    "one json": in_json,
    "many json": in_many_json,
    "parquet": in_parquet,
    "git": in_git,
    "generated": in_generator,
}


class Opened:
    """A source opened and pinned into a private folder."""

    def __init__(self, spec: AnySource, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.source: Source = open_source(spec, 0)
        self.pinned = self.source.pin(folder)

    def steps(self, partition: int = 0, partitions: int = 1, cursor: Cursor | None = None) -> list[Step]:
        return list(self.source.rows(self.folder, partition, partitions, cursor))

    def rows(self) -> list[Row | BadRow]:
        return [step.row for step in self.steps()]


def texts(rows: list[Row | BadRow]) -> list[Any]:
    return [
        row.fields.get("text") or row.fields.get("question") if isinstance(row, Row) else row.reason for row in rows
    ]
