"""Small data sets as they lie on the Hub, one of every format that is read here, and opening them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Source, Step
from shardkit.sources.table import open_source
from shardkit.spec import HubSource, Limits

NAME = "owner/name"
ROWS = [{"question": f"é {number}?", "answer": "yes" * number} for number in range(23)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = "question,answer\r\n" + "".join(f'"é {number}?","yes, ""\n{number}"\r\n' for number in range(23))


def parquet(rows: list[dict[str, Any]], group: int = 5, **options: Any) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out, row_group_size=group, **options)
    return out.getvalue()


def tar(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def samples(first: int, count: int) -> dict[str, bytes]:
    return {
        f"a/{number:04d}.{end}": data
        for number in range(first, first + count)
        for end, data in (
            ("json", json.dumps({"question": f"{number}?", "answer": "yes"}).encode()),
            ("jpg", bytes([number])),
            ("txt", b"text"),
        )
    }


def media_rows(first: int, count: int) -> list[dict[str, Any]]:
    common = {"answer": "yes", "unread": "x" * 1000}
    return [
        {"question": f"{number}?", **common, "image": {"bytes": bytes([number]), "path": "a.png"}}
        for number in range(first, first + count)
    ]


REPOSITORIES: dict[str, dict[str, bytes]] = {
    "parquet": {
        "data/train-00000-of-00002.parquet": parquet(media_rows(0, 11)),
        "data/train-00001-of-00002.parquet": parquet(media_rows(11, 4)),
        "data/test-00000-of-00001.parquet": parquet(media_rows(50, 1)),
    },
    "one parquet": {"train.parquet": parquet(media_rows(0, 23))},
    "jsonl": {"train.jsonl": LINES},
    "many jsonl": {
        "train/a.jsonl": LINES[: LINES.index(b"\n", 300) + 1],
        "train/b.jsonl.gz": gzip.compress(LINES),
        "train/c.jsonl.zst": zstandard.compress(LINES),
        "train/d.ndjson": b"\n" + LINES.rstrip(b"\n"),
    },
    "lines called json": {"data.json": LINES},
    "json": {"train.json": json.dumps(ROWS, indent=1).encode()},
    "wrapped json": {"train.json": json.dumps({"data": ROWS, "version": "1"}).encode()},
    "packed json": {"train.json.gz": gzip.compress(json.dumps(ROWS).encode())},
    "csv": {"train.csv": CSV.encode()},
    "many csv": {"train-a.csv": CSV.encode(), "train-b.csv.gz": gzip.compress(CSV.encode())},
    "tar": {"shard-0.tar": tar(samples(0, 9)), "shard-1.tar": tar(samples(9, 4))},
    "one tar": {"train.tar": tar(samples(0, 13))},
    "packed tar": {"train.tar.gz": gzip.compress(tar(samples(0, 7)))},
}


def spec(**fields: Any) -> HubSource:
    return HubSource(**{"name": "here", "dataset": NAME, "normalizer": "question_answer", **fields})


class Opened:
    """A source opened and pinned into a private folder."""

    def __init__(self, source_spec: HubSource, folder: Path) -> None:
        self.spec, self.folder = source_spec, folder
        self.source: Source = open_source(source_spec, 0, Limits())
        self.pinned: Pinned = self.source.pin(folder)

    def steps(self, partition: int = 0, partitions: int = 1, cursor: Cursor | None = None) -> list[Step]:
        return list(self.source.rows(self.folder, partition, partitions, cursor))

    def rows(self) -> list[Row | BadRow]:
        return [step.row for step in self.steps()]


Opener = Callable[..., Opened]
