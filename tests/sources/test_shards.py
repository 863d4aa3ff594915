"""Shards as a source: datasets of ours passed on as they are, tars of others by their members' names."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from shardkit import open_dataset
from shardkit.build.run import build
from shardkit.errors import Refused, SourceDamaged, SourceFailed, SourceUnavailable, SpecError
from shardkit.media.prepare import prepare
from shardkit.records.normalize import normalize
from shardkit.records.row import Row
from shardkit.records.sample import encode_sample
from shardkit.sources.base import BadRow
from shardkit.spec import BuildSpec, Limits, MediaOptions, ShardsSource, convert_spec
from tests.build.making import notes, run_command, save_spec, spec_of
from tests.servers.files import Files, file_server
from tests.sources.kinds import Opened
from tests.sources.test_http import PNG


@pytest.fixture
def server() -> Iterator[Files]:
    with file_server() as server:
        yield server


def spec(**fields: object) -> ShardsSource:
    return ShardsSource(**{"name": "here", "normalizer": "sample", **fields})  # type: ignore[arg-type]


def make_tar(members: dict[str, bytes], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pairs(first: int, count: int) -> bytes:
    members = {}
    for at in range(first, first + count):
        members[f"d/{at:04}.jpg"] = PNG + bytes([at])
        members[f"d/{at:04}.txt"] = f"caption {at}".encode()
        members[f"d/{at:04}.json"] = json.dumps({"width": at}).encode()
    return make_tar(members)


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ours with text, preferences, images, sound, video and left out duplicates, in both codecs."""
    folder = tmp_path_factory.mktemp("parent")
    lines = [{"prompt": f"{at}?", "chosen": "yes", "rejected": "no"} for at in (*range(6), *range(3))]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    generated = {"kind": "generated", "count": 4, "normalizer": "question_answer", "licence": "CC0-1.0"}
    sources = [
        {"kind": "jsonl", "name": "pairs", "path": str(folder / "p.jsonl"), "normalizer": "preference",
         "codec": "tar.zst", "partitions": 2},
        notes(count=25),
        {**generated, "name": "shapes", "generator": "shapes", "media_type": "diagram"},
        {**generated, "name": "tones", "generator": "dtmf", "normalizer": "transcript", "codec": "tar.zst"},
        {**generated, "name": "casts", "generator": "screencast", "count": 2},
    ]  # fmt: skip
    made = convert_spec(
        {"name": "parent", "sources": sources, "limits": {"shard_samples": 10, "block_samples": 4}}, BuildSpec, "parent"
    )
    build(made, out=folder / "data", workers=0)
    return folder / "data"


def test_dataset_is_passed_on_as_it_is(parent: Path, tmp_path: Path) -> None:
    source = {"kind": "shards", "name": "again", "dataset": str(parent), "normalizer": "sample", "partitions": 3}
    build(spec_of(source), out=tmp_path / "out", workers=0)
    before, after = open_dataset(str(parent)), open_dataset(str(tmp_path / "out"))
    had, got = ({item.key: item for item in dataset} for dataset in (before, after))
    assert len(had) > 30
    assert set(got) == set(had)
    for key, item in got.items():
        old, new = had[key].sample, item.sample
        for name in ("id", "messages", "preference", "modalities", "domain", "category", "licence"):
            assert getattr(new, name) == getattr(old, name)
        assert new.source == "again"
        assert new.provenance == {
            **old.provenance, "origin_source": old.source, "origin_revision": old.provenance["revision"],
            "origin_position": old.provenance["position"], "revision": before.version, "position": key,
        }  # fmt: skip
        members = {name: bytes(data) for name, data in item.members.items() if not name.endswith("json")}
        assert members == {name: bytes(data) for name, data in had[key].members.items() if not name.endswith("json")}


def test_where_a_sample_came_from_first_stays_with_it(parent: Path, tmp_path: Path) -> None:
    source = {"kind": "shards", "name": "again", "dataset": str(parent), "normalizer": "sample", "licence": "MIT"}
    build(spec_of(source), out=tmp_path / "a", sample=3, workers=0)
    build(spec_of({**source, "name": "more", "dataset": str(tmp_path / "a")}), out=tmp_path / "b", workers=0)
    first = {item.key: item.sample for item in open_dataset(str(parent))}
    for item in open_dataset(str(tmp_path / "b")):
        told, sample = item.sample.provenance, first[item.key]
        assert (item.sample.source, item.sample.licence, told["revision"]) == (
            "more", "MIT", open_dataset(str(tmp_path / "a")).version,
        )  # fmt: skip
        assert (told["origin_source"], told["origin_position"]) == (sample.source, sample.provenance["position"])


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_dataset_is_covered_and_resumed_exactly(parent: Path, partitions: int, opened: Callable[..., Opened]) -> None:
    source = opened(spec(dataset=str(parent)))
    assert source.pinned.revision == open_dataset(str(parent)).version
    assert source.pinned.rows == len(open_dataset(str(parent)))
    covered = []
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        covered += [step.row.position for step in steps]
        for at in range(0, len(steps), 5):
            assert source.steps(partition, partitions, steps[at].cursor) == steps[at + 1 :]
    assert sorted(covered) == sorted(item.key for item in open_dataset(str(parent)))


def test_dataset_over_http_and_pinned_version(
    parent: Path, server: Files, opened: Callable[..., Opened], tmp_path: Path
) -> None:
    server.content = {f"/{path.relative_to(parent)}": path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    version = open_dataset(str(parent)).version
    local, remote = opened(spec(dataset=str(parent))), opened(spec(dataset=server.url, version=version))
    assert remote.rows() == local.rows()
    with pytest.raises(SpecError, match="has no version 0000"):
        opened(spec(dataset=str(parent), version="0" * 64))
    with pytest.raises(SpecError, match="is no dataset"):
        opened(spec(dataset=str(tmp_path)))
    server.faults = ["403"] * 9
    with pytest.raises(SourceUnavailable, match="status 403"):
        opened(spec(dataset=server.url))


def test_damaged_dataset_is_never_read_as_other_rows(
    parent: Path, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(parent, copy)
    source = opened(spec(dataset=str(copy)))
    wanted = source.rows()
    for path in sorted((copy / "shards").rglob("*.tar*")):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
        seen = []
        with pytest.raises(SourceDamaged):
            for step in source.source.rows(source.folder, 0, 1, None):
                seen.append(step.row)
        assert seen == wanted[: len(seen)]
        path.unlink()
        with pytest.raises((SourceDamaged, SourceFailed)):
            source.rows()
        path.write_bytes(data)


def test_members_that_do_not_fit_the_record_are_refused(parent: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(dataset=str(parent)))
    rows = (row for row in source.rows() if isinstance(row, Row))
    row, member = next((row, name) for row in rows for name in row.blobs if name.startswith("image0."))
    draft = normalize(row, source.spec, "v")
    made = prepare(draft, MediaOptions(), Limits())
    assert made.members[0].data == row.blobs[member]
    assert b'"origin_source":' in encode_sample(made.sample)
    image = row.blobs[member]
    for name, data, reason in ((member, image[:-20], "image-damaged"), ("other", image, "no-media")):
        blobs = {"json": row.blobs["json"], name: data}
        with pytest.raises(Refused) as caught:
            prepare(normalize(Row(position="x", fields={}, blobs=blobs), source.spec, "v"), MediaOptions(), Limits())
        assert caught.value.reason == reason


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".tar": lambda data: data,
    ".tar.gz": gzip.compress,
    ".tar.zst": zstandard.compress,
    ".tgz": gzip.compress,
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("partitions", [1, 3])
def test_tars_of_others_are_covered_and_resumed_exactly(
    suffix: str, partitions: int, tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(PACK[suffix](pairs(0, 7)))
    columns = {"image": "jpg;png", "text": "txt", "id": "__key__"}
    source = opened(spec(path=str(tmp_path / f"a{suffix}"), normalizer="caption", columns=columns))
    whole = {row.position: row for row in source.rows()}
    assert list(whole) == [f"a{suffix}:d/{at:04}" for at in range(7)]
    row = whole[f"a{suffix}:d/0003"]
    assert isinstance(row, Row)
    assert row.fields == {"__key__": "d/0003", "txt": "caption 3", "width": 3}
    assert row.blobs["jpg;png"] == row.blobs["jpg"] == PNG + b"\x03"
    assert normalize(row, source.spec, "r").messages[-1].content == "caption 3"
    covered = []
    for partition in range(partitions):
        steps = source.steps(partition, partitions)
        covered += [step.row for step in steps]
        for at, step in enumerate(steps):
            assert source.steps(partition, partitions, step.cursor) == steps[at + 1 :]
    assert sorted(row.position for row in covered) == sorted(whole)


def test_tars_at_urls_through_the_command(server: Files, tmp_path: Path) -> None:
    server.content = {f"/t-{at}.tar": pairs(10 * at, 4) for at in range(3)}
    source = {"kind": "shards", "name": "web", "urls": [f"{server.url}/t-{{0..2}}.tar"], "normalizer": "caption",
              "columns": {"image": "jpg", "text": "txt"}}  # fmt: skip
    path = save_spec(tmp_path / "s.yaml", spec_of(source))
    ended = run_command("build", path, "--out", tmp_path / "out", "--sample", "5", "--json")
    assert ended.returncode == 0, ended.stderr
    dataset = open_dataset(str(tmp_path / "out"))
    assert [item.sample.messages[-1].content for item in dataset] == [f"caption {at}" for at in (0, 1, 2, 3, 10)]


def test_tar_of_ours_by_its_path_passes_samples_on(parent: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(path=str(parent / "shards"), include=("**/*.tar", "**/*.tar.zst")))
    rows = source.rows()
    assert {row.fields["__key__"] for row in rows if isinstance(row, Row)} >= {
        item.key for item in open_dataset(str(parent))
    }
    assert all(normalize(row, source.spec, "r").kept is not None for row in rows if isinstance(row, Row))


def test_bad_members_are_refused_and_the_rest_is_read(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    data = make_tar(
        {"a.json": b"[1]", "b.txt": b"\xff", "c.txt": b"x", ".d/meta": b"", "e.seg.png": PNG, "e.cls": b"7"}
    )
    (tmp_path / "a.tar").write_bytes(data)
    first, second, third, last = opened(spec(path=str(tmp_path), normalizer="plain_text")).rows()
    assert isinstance(first, BadRow)
    assert isinstance(second, BadRow)
    assert (first.reason, second.reason) == ("not-json", "not-utf8")
    assert isinstance(third, Row)
    assert isinstance(last, Row)
    assert (third.fields, third.blobs) == ({"__key__": "c", "txt": "x"}, {})
    assert (last.fields, last.blobs) == ({"__key__": "e", "cls": "7"}, {"seg.png": PNG})


def test_hostile_and_cut_tars_are_damage(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    whole = pairs(0, 3)
    (tmp_path / "a.tar").write_bytes(whole[:2000])
    with pytest.raises(SourceDamaged, match="replace it with a whole copy"):
        opened(spec(path=str(tmp_path / "a.tar"))).rows()
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as archive:
        info = tarfile.TarInfo("x.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "a.tar").write_bytes(link.getvalue())
    with pytest.raises(SpecError, match="only regular files"):
        opened(spec(path=str(tmp_path / "a.tar")))


@pytest.mark.parametrize("fields", [{}, {"path": "a", "urls": ("http://h/a.tar",)}, {"path": "a", "version": "1"}])
def test_spec_names_one_place(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give one of|tars have none"):
        spec(**fields)
