"""Files of the Hub read by ranges: the same rows as in the files, from every cursor, in any number of parts."""

from __future__ import annotations

import json

import pytest

from shardkit.errors import SourceChanged, SpecError
from shardkit.records.row import Row
from tests.servers.hub import Hub
from tests.sources.hub.repositories import (
    CSV,
    LINES,
    NAME,
    REPOSITORIES,
    ROWS,
    Opener,
    parquet,
    samples,
    tar,
)

every_repository = pytest.mark.parametrize("name", REPOSITORIES)


@every_repository
@pytest.mark.parametrize("partitions", [1, 3])
def test_rows_behind_a_cursor_are_the_rest(name: str, partitions: int, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    source = opened()
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        for at, step in enumerate(steps):
            stored = json.loads(json.dumps(step.cursor))  # cursors pass through commits
            assert source.steps(partition, partitions, stored) == steps[at + 1 :]


@every_repository
@pytest.mark.parametrize("partitions", [2, 7])
def test_partitions_are_disjoint_and_cover_the_split(name: str, partitions: int, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    source = opened()
    whole = {row.position: row for row in source.rows()}
    parts = [step.row for partition in range(partitions) for step in source.steps(partition, partitions)]
    assert len(parts) == len(whole) >= 7
    assert {row.position: row for row in parts} == whole


@every_repository
def test_large_files_behind_a_redirect_are_read_the_same(name: str, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    here = opened().rows()
    hub.large_bytes = 1
    assert opened().rows() == here
    assert hub.cdn.requests


def test_small_files_are_read_from_a_mirror_without_ranges(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"train.jsonl": LINES * 300})
    hub.ranges = False
    source = opened()
    steps = source.steps()
    assert len(steps) == 300 * 23
    assert source.steps(cursor=steps[5000].cursor) == steps[5001:]


def test_lines_lists_and_records_are_the_rows(hub: Hub, opened: Opener) -> None:
    for name in ("jsonl", "lines called json", "json", "packed json"):
        hub.commit(NAME, REPOSITORIES[name])
        rows = opened().rows()
        assert [row.fields for row in rows if isinstance(row, Row)] == ROWS
    assert rows[4].position == "train.json.gz:5"
    hub.commit(NAME, REPOSITORIES["csv"])
    assert opened().rows()[3] == Row(position="train.csv:4", fields={"question": "é 3?", "answer": 'yes, "\n3'})


def test_parquet_gives_the_wanted_columns_and_media(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES["parquet"])
    rows = opened().rows()
    assert rows[12] == Row(
        position="data/train-00001-of-00002.parquet:2",
        fields={"question": "12?", "answer": "yes", "image.path": "a.png"},
        blobs={"image": b"\x0c"},
    )
    assert len(rows) == 15
    assert len(opened(split="test").rows()) == 1


def test_tar_gives_members_by_their_ends(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES["tar"])
    rows = opened().rows()
    assert len(rows) == 13
    assert rows[10] == Row(
        position="shard-1.tar:a/0010",
        fields={"__key__": "a/0010", "question": "10?", "answer": "yes", "txt": "text"},
        blobs={"json": b'{"question": "10?", "answer": "yes"}', "jpg": b"\x0a"},
    )


def test_tar_that_is_cut_is_damage(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"x.tar": tar(samples(0, 3))[:2000]})
    with pytest.raises(Exception, match=r"here: x\.tar, offset .* cut short"):
        opened().rows()


def test_columns_that_are_not_read_are_not_fetched(hub: Hub, opened: Opener) -> None:
    rows = [{"question": f"{number}", "answer": "yes", "unread": f"{number}" * 1000} for number in range(2000)]
    data = parquet(rows, group=500, compression="none", use_dictionary=False)
    hub.commit(NAME, {"train.parquet": data})
    assert len(opened().rows()) == 2000
    assert hub.sent_bytes < len(data) / 10


@pytest.mark.parametrize("name", ["jsonl", "csv", "json", "tar"])
def test_first_rows_of_a_big_file_cost_little(name: str, hub: Hub, opened: Opener) -> None:
    many = {
        "jsonl": {"x.jsonl": LINES * 5000},
        "csv": {"x.csv": (CSV + CSV.partition("\r\n")[2] * 5000).encode()},
        "json": {"x.json": b"[" + b",".join([b'{"question": "1", "answer": "2"}'] * 100_000) + b"]"},
        "tar": {"x.tar": tar({f"{number}.txt": bytes(3000) for number in range(1000)})},
    }
    hub.commit(NAME, many[name])
    source = opened()
    steps = source.source.rows(source.folder, 0, 1, None)
    assert [next(steps) for _ in range(5)]
    steps.close()  # type: ignore[attr-defined]
    assert hub.sent_bytes + hub.cdn.sent_bytes < 600_000


def test_medium_with_a_path_alone_is_found_in_the_repository(hub: Hub, opened: Opener) -> None:
    paths = ["images/a.png", "./b.png", "../c.png", "/d.png", "none.png", None]
    rows = [{"question": "?", "answer": "yes", "image": {"bytes": None, "path": path}} for path in paths]
    rows += [{"question": "?", "answer": "yes", "image": {"bytes": b"own", "path": "images/a.png"}}]
    hub.commit(NAME, {"data/x.parquet": parquet(rows), "images/a.png": b"A", "data/b.png": b"B", "c.png": b"C"})
    found = [row.blobs for row in opened(data_files=("data/*.parquet",)).rows() if isinstance(row, Row)]
    assert found == [{"image": b"A"}, {"image": b"B"}, {}, {}, {}, {}, {"image": b"own"}]


def test_lists_of_media_are_numbered(hub: Hub, opened: Opener) -> None:
    pages = [{"bytes": b"1", "path": None}, {"bytes": None, "path": "two.png"}]
    hub.commit(NAME, {"x.parquet": parquet([{"question": "?", "answer": "y", "image": pages}]), "two.png": b"2"})
    [row] = opened(data_files=("x.parquet",)).rows()
    assert isinstance(row, Row)
    assert row.blobs == {"image.0": b"1", "image.1": b"2"}


@pytest.mark.parametrize("name", ["jsonl", "parquet", "json", "csv", "tar"])
def test_file_with_other_bytes_than_pinned_stops_the_lane(name: str, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    source = opened()
    path = sorted(path for path in REPOSITORIES[name] if "test" not in path)[0]
    data = bytearray(REPOSITORIES[name][path])
    data[len(data) // 2] ^= 1
    hub.tampered(NAME, path, bytes(data))
    with pytest.raises(SourceChanged, match=r"changed since planned \(it has another digest\); build with --update"):
        source.rows()
    hub.tampered(NAME, path, bytes(data) + b"\n")
    with pytest.raises(SourceChanged, match="changed since planned"):
        source.rows()


def test_file_without_the_columns_is_refused_by_the_plan(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES["parquet"])
    with pytest.raises(SpecError, match=r"none of the columns .*it has: question, answer, unread, image"):
        opened(normalizer="plain_text")
    hub.commit(NAME, {"train.parquet": b"PAR1" + bytes(200)})
    with pytest.raises(SpecError, match=r"train\.parquet is not a whole parquet file"):
        opened()


def test_parquet_is_fetched_once_and_in_pieces(hub: Hub, opened: Opener) -> None:
    rows = [{"question": f"{at}?", "answer": f"{at:06d}" * 20_000} for at in range(40)]
    data = parquet(rows, group=20, compression="none", use_dictionary=False)
    hub.commit(NAME, {"train.parquet": data})
    source = opened()
    hub.cdn.sent_bytes = 0
    assert len(source.rows()) == 40
    assert len(data) <= hub.cdn.sent_bytes < 1.2 * len(data)
