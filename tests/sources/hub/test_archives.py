"""Media in archives apart from their rows: joined through the real client, resumed at every row, never read whole."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit.build.run import build
from shardkit.errors import PartlyDone, SourceChanged, SourceDamaged, SourceFailed, SpecError
from shardkit.read.dataset import open_dataset
from shardkit.records.row import Row
from shardkit.report.stats import dataset_stats
from shardkit.sources.hub import source as hub_source
from shardkit.sources.table import open_source
from shardkit.spec import HubSource, Limits
from tests.build.making import spec_of
from tests.media.making import encoded, picture
from tests.records.published.apart import packed, written
from tests.servers.hub import Hub
from tests.sources.hub.repositories import NAME, Opened, Opener

COUNT = 12
ROWS = [{"text": f"Picture {at}.", "file": f"{at % COUNT}.png"} for at in range(COUNT + 5)] + [
    {"text": "Lost.", "file": "lost.png"},
    {"text": "Of nothing.", "file": None},
]
PICTURES = {f"all/{at}.png": encoded(picture(16 + at, 16), "PNG") for at in range(COUNT)}
HALVES = (dict(list(PICTURES.items())[:7]), dict(list(PICTURES.items())[6:]))
"""One picture lies in both."""
ARCHIVES: dict[str, dict[str, bytes]] = {
    "zip": {"a.zip": packed("a.zip", HALVES[0]), "b.zip": packed("b.zip", dict(list(HALVES[1].items())[1:]))},
    "tar": {"a.tar": packed("a.tar", HALVES[0]), "b.tar": packed("b.tar", HALVES[1])},
    "tar.gz": {"a.tar.gz": packed("a.tar.gz", HALVES[0]), "b.tar.gz": packed("b.tar.gz", HALVES[1])},
}
PAIRS = {**PICTURES, **{name.replace("png", "html"): f"<p>{name}</p>".encode() for name in PICTURES}}
FORMS = ("rows.jsonl", "rows.json", "rows.tsv", "data/train.parquet")


def joined(kind: str, path: str = "rows.jsonl", **fields: Any) -> dict[str, Any]:
    """The fields of a source whose rows are in one file and whose pictures in archives of a kind."""
    archive = {"files": [f"*.{kind}"], "key": "file", "match": "name"}
    return {
        "kind": "hub", "name": "here", "dataset": NAME, "normalizer": "caption", "data_files": [path],
        "archives": {"image": archive}, **fields,
    }  # fmt: skip


def opened_as(opened: Opener, fields: dict[str, Any]) -> Opened:
    spec = msgspec.convert(fields, HubSource)
    return opened(**{name: getattr(spec, name) for name in fields if name not in ("kind",)})


def commit(hub: Hub, kind: str, path: str = "rows.jsonl") -> None:
    rows = [{**row, "file": row["file"] or ""} for row in ROWS] if path.endswith("tsv") else ROWS
    hub.commit(NAME, {path: written(path, rows), **ARCHIVES[kind]})


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_row_comes_once_with_its_picture(hub: Hub, opened: Opener, kind: str, path: str) -> None:
    commit(hub, kind, path)
    rows = opened_as(opened, joined(kind, path)).rows()
    pictures = {row.fields["text"]: row.blobs.get("image") for row in rows if isinstance(row, Row)}
    wanted = {row["text"]: PICTURES.get(f"all/{row['file']}") for row in ROWS if row["file"] != "lost.png"}
    assert pictures == wanted
    [refused] = [row for row in rows if not isinstance(row, Row)]
    assert refused.reason == "no-media" and "lost.png" in refused.detail
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_rows_go_on_behind_every_row(hub: Hub, opened: Opener, kind: str) -> None:
    commit(hub, kind)
    whole = opened_as(opened, joined(kind)).steps()
    for at, _ in enumerate(whole):
        here = opened_as(opened, joined(kind))  # nobody has read further in this folder
        stream = here.source.rows(here.folder, 0, 1, None)
        before = [next(stream) for _ in range(at + 1)]
        stream.close()  # type: ignore[attr-defined]
        assert before == whole[: at + 1]
        assert here.steps(cursor=before[-1].cursor) == whole[at + 1 :]


def test_rows_of_zips_come_in_partitions_and_in_their_own_order(hub: Hub, opened: Opener) -> None:
    commit(hub, "zip", "data/train.parquet")
    here = opened_as(opened, joined("zip", "data/train.parquet"))
    assert [row.position for row in here.rows()] == [f"data/train.parquet:{at + 1}" for at in range(len(ROWS))]
    hub.commit(NAME, {**{f"{at}.jsonl": written("x.jsonl", ROWS[at::3]) for at in range(3)}, **ARCHIVES["zip"]})
    here = opened_as(opened, joined("zip", "*.jsonl"))
    parts = [step.row for at in range(2) for step in here.steps(at, 2)]
    assert sorted(row.position for row in parts) == sorted(row.position for row in here.rows())


def test_rows_that_are_not_wanted_cost_no_member(hub: Hub, tmp_path: Path) -> None:
    commit(hub, "zip")
    spec = spec_of(joined("zip", where={"text": ["Picture 3.", "Picture 15."]}))
    result = build(spec, out=tmp_path / "out", workers=0)
    assert result.samples == 2
    assert result.dead_letters == 0


def test_rows_of_zips_are_chosen_at_random_without_their_pictures(hub: Hub, tmp_path: Path) -> None:
    commit(hub, "zip", "data/train.parquet")
    spec = spec_of(joined("zip", "data/train.parquet", sampling={"method": "random"}))
    first, again = (build(spec, out=tmp_path / name, sample=5, workers=0) for name in ("a", "b"))
    assert (first.samples, first.version) == (5, again.version)


@pytest.mark.parametrize("packing", ["", ".zip"])
def test_files_of_one_name_are_a_row(hub: Hub, opened: Opener, packing: str) -> None:
    hub.commit(NAME, {"pages.zip": packed("pages.zip", PAIRS)} if packing else {**PAIRS, "rick.jpg": b"x"})
    fields = {"reader": "stems", "data_files": ["*.zip"] if packing else ["**/*.html", "**/*.png"]}
    here = opened(normalizer="screenshot_to_code", columns={"image": "png", "code": "html"}, **fields)
    steps = here.steps()
    found = {step.row.fields["html"]: step.row.blobs["png"] for step in steps if isinstance(step.row, Row)}
    assert found == {f"<p>{name.replace('png', 'html')}</p>": data for name, data in PICTURES.items()} or found == {
        f"<p>{name}</p>": data for name, data in PICTURES.items()
    }
    for at, step in enumerate(steps):
        assert here.steps(cursor=step.cursor) == steps[at + 1 :]
    parts = [step.row for at in range(3) for step in here.steps(at, 3)]
    assert sorted(row.position for row in parts) == sorted(step.row.position for step in steps)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_five_samples_read_no_whole_tar(hub: Hub, tmp_path: Path, kind: str) -> None:
    noise = random.Random(7)
    members = {f"{at}.png": encoded(picture(32, 32), "PNG") + noise.randbytes(400_000) for at in range(80)}
    rows = [{"text": f"Picture {at}.", "file": f"{at}.png"} for at in range(80)]
    tar = packed(f"a.{kind}", members)
    hub.commit(NAME, {"rows.jsonl": written("rows.jsonl", rows), f"a.{kind}": tar})
    result = build(spec_of(joined(kind)), out=tmp_path / "out", sample=5, workers=0)
    assert result.samples == 5
    assert hub.sent_bytes + hub.cdn.sent_bytes < len(tar) / 3


def test_one_member_of_a_zip_is_read_alone(hub: Hub, opened: Opener) -> None:
    members = {f"{at}.png": random.Random(at).randbytes(400_000) for at in range(40)}
    rows = [{"text": "Picture 20.", "file": "20.png"}]
    hub.commit(NAME, {"rows.jsonl": written("rows.jsonl", rows), "a.zip": packed("a.zip", members)})
    [row] = opened_as(opened, joined("zip")).rows()
    assert isinstance(row, Row) and row.blobs["image"] == members["20.png"]
    assert hub.sent_bytes + hub.cdn.sent_bytes < 1_000_000


@pytest.mark.parametrize("kind", [*ARCHIVES, "stems"])
def test_build_that_is_cut_off_again_and_again_ends_the_same(
    kind: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = joined(kind)
    if kind == "stems":
        hub.commit(NAME, {"pages.zip": packed("pages.zip", PAIRS)})
        columns = {"image": "png", "code": "html"}
        fields = {**fields, "normalizer": "screenshot_to_code", "columns": columns, "archives": {}, "reader": "stems"}
        fields["data_files"] = ["*.zip"]
    else:
        commit(hub, kind)
    spec = msgspec.structs.replace(spec_of(fields), duplicates="keep")
    whole = build(spec, out=tmp_path / "whole", workers=0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(hub_source, "PATIENCE", msgspec.structs.replace(hub_source.PATIENCE, attempts=2))
    stops = 0
    for good in range(1, 80):
        hub.faults = [*[""] * good, "cut", *["503"] * 40]
        try:
            last = build(spec, out=tmp_path / "cut", workers=0)
        except (PartlyDone, SourceFailed):
            stops += 1
        else:
            break
    assert stops > 0
    assert last.version == whole.version
    assert last.samples == (COUNT if kind == "stems" else COUNT + 5)


def test_a_damaged_member_is_a_dead_letter_with_its_name(hub: Hub, tmp_path: Path) -> None:
    data = bytearray(ARCHIVES["zip"]["a.zip"])
    data[60] ^= 0xFF  # within the first member's bytes
    hub.commit(NAME, {"rows.jsonl": written("rows.jsonl", ROWS[:5]), "a.zip": bytes(data)})
    result = build(spec_of(joined("zip")), out=tmp_path / "out", workers=0)
    assert result.samples == 4
    assert dataset_stats(open_dataset(str(tmp_path / "out"))).refused == {"member-damaged": 1}


def test_a_member_beyond_the_limit_is_refused(hub: Hub, opened: Opener) -> None:
    for kind in ARCHIVES:
        commit(hub, kind)
        here = opened_as(opened, joined(kind))
        small = open_source(here.spec, 0, Limits(member_bytes=10))
        rows = [step.row for step in small.rows(here.folder, 0, 1, None)]
        assert {getattr(row, "reason", "") for row in rows} == {"too-big", "no-media", ""}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_a_tar_that_is_cut_stops_the_lane(hub: Hub, opened: Opener, name: str) -> None:
    data = ARCHIVES[name.partition(".")[2]][name]
    hub.commit(NAME, {"rows.jsonl": written("rows.jsonl", ROWS), name: data[: len(data) // 3]})
    with pytest.raises(SourceDamaged, match=r"a\.tar"):
        opened_as(opened, joined(name.partition(".")[2])).rows()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_changed_since_planned_is_told(hub: Hub, opened: Opener, kind: str) -> None:
    commit(hub, kind)
    here = opened_as(opened, joined(kind))
    hub.tampered(NAME, f"a.{kind}", ARCHIVES[kind][f"a.{kind}"] + b"\0")
    with pytest.raises(SourceChanged, match=rf"a\.{kind}"):
        here.rows()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.zip": b"not a zip"}, r"a\.zip has no directory at its end"),
        ({"a.zip": packed("a.zip", {})}, "hold no files"),
        ({}, "no file that matches"),
    ],
)
def test_a_plan_says_what_is_wrong_with_an_archive(
    hub: Hub, opened: Opener, files: dict[str, bytes], told: str
) -> None:
    hub.commit(NAME, {"rows.jsonl": written("rows.jsonl", ROWS), **files})
    with pytest.raises(SpecError, match=told):
        opened_as(opened, joined("zip"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (joined("tar", partitions=2), "partitions has or is 2"),
        (joined("tar", sampling={"method": "random"}), "order of the tars"),
        (joined("zip", reader="datasets"), "reader files"),
        (joined("rar"), "wanted patterns of .zip"),
        ({**joined("zip"), "archives": {"image": {"files": ["a.zip", "b.tar"]}}}, "wanted patterns of .zip"),
        ({**joined("zip"), "archives": {"image": {"files": ["../a.zip"]}}}, "no path within"),
        ({**joined("zip"), "archives": {}, "reader": "stems", "data_files": []}, "needs `data_files`"),
    ],
)
def test_specs_that_make_no_sense_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(fields, HubSource)


def test_what_a_resume_reads_again_is_told(hub: Hub, opened: Opener) -> None:
    told = {}
    for kind in ARCHIVES:
        commit(hub, kind)
        told[kind] = opened_as(opened, joined(kind)).pinned.reread
    assert told == {
        "zip": "",
        "tar": "the headers before it in the open tar",
        "tar.gz": "the start of the open .tar.gz",
    }
    assert gzip.decompress(ARCHIVES["tar.gz"]["a.tar.gz"]) == ARCHIVES["tar"]["a.tar"]
