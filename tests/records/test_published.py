"""Contracts of the normalisers: rows as they are published, read from files, become what is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit.errors import Refused
from shardkit.records.normalize import NORMALIZERS, check_normalizer, normalize
from shardkit.records.row import Row
from shardkit.sources.base import BadRow, Passed
from shardkit.sources.gather import gathered
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, JsonlSource, ParquetSource
from tests.records.published import PUBLISHED, published_rows
from tests.records.published.shape import Published

every_dataset = pytest.mark.parametrize("name", PUBLISHED)


def source_of(published: Published, folder: Path, suffix: str = "") -> AnySource:
    """The published rows in a file, and the spec that reads it."""
    path = folder / f"train.{suffix or published.suffix}"
    fields = {"name": "here", "path": str(path), **published.spec}
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in published.rows()), "utf-8")
        return msgspec.convert({"kind": "jsonl", **fields}, JsonlSource)
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(published.rows()), path)
    return msgspec.convert({"kind": "parquet", **fields}, ParquetSource)


def outcomes(spec: AnySource, folder: Path) -> list[list[str]]:
    """What each row becomes, in words."""
    check_normalizer(spec)
    source = gathered(open_source(spec, 0), spec)
    source.pin(folder)
    return [told(step.row, spec) for step in source.rows(folder, 0, 1, None)]


def told(row: Row | BadRow | Passed, spec: AnySource) -> list[str]:
    if isinstance(row, Passed):
        return [f"passed: {row.count}"]
    if isinstance(row, BadRow):
        return [f"refused: {row.reason}"]
    try:
        draft = normalize(row, spec, "revision")
    except Refused as refused:
        return [f"refused: {refused.reason}"]
    answers = {} if draft.preference is None else msgspec.structs.asdict(draft.preference)
    messages = [f"{message.role}: {message.content}" for message in draft.messages]
    return messages + [f"{name}: {text}" for name, text in answers.items()]


@every_dataset
def test_rows_become_what_is_wanted(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    assert outcomes(source_of(published, tmp_path), make(tmp_path / "pins")) == published.becomes


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", [one.name for one in PUBLISHED.values() if one.suffix == "jsonl"])
def test_the_format_of_the_file_makes_no_difference(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    assert outcomes(source_of(published, tmp_path, "parquet"), make(tmp_path / "pins")) == published.becomes


def test_every_normalizer_has_a_published_dataset() -> None:
    ours = {"repository_file", "unlabelled", "sidecar", "plain", "sample"}  # files, and records in forms of our own
    assert {one.spec["normalizer"] for one in PUBLISHED.values()} >= set(NORMALIZERS) - ours


def drafts(name: str, tmp_path: Path, **more: Any) -> list[Any]:
    published = PUBLISHED[name]
    spec = source_of(published._replace(spec={**published.spec, **more}), tmp_path)
    source = gathered(open_source(spec, 0), spec)
    folder = make(tmp_path / "pins")
    source.pin(folder)
    rows = [step.row for step in source.rows(folder, 0, 1, None)]
    made = []
    for row in rows:
        try:
            made.append(normalize(row, spec, "revision") if isinstance(row, Row) else None)
        except Refused:
            made.append(None)
    return made


def test_a_rows_own_licence_goes_before_the_sources(tmp_path: Path) -> None:
    found = [draft.licence for draft in drafts("bigcode/commitpackft", tmp_path) if draft]
    assert found == ["apache-2.0", "bsd-3-clause"]


def test_a_row_without_a_licence_has_the_sources(tmp_path: Path) -> None:
    columns = {"licence": "hash", "system": "system_prompt"}
    first, _ = drafts("teknium/OpenHermes-2.5", tmp_path, columns=columns, licence="unknown")
    assert first.licence == "unknown"


def test_images_come_in_the_order_in_which_the_text_refers_to_them(tmp_path: Path) -> None:
    second = drafts("MMMU/MMMU", tmp_path)[1]
    row = published_rows("MMMU/MMMU")[1]
    assert [medium.data for medium in second.media] == [row[f"image_{number}"]["bytes"] for number in (2, 1, 3)]


def test_tests_and_final_answers_are_in_provenance(tmp_path: Path) -> None:
    [task] = drafts("google-research-datasets/mbpp#sanitized", make(tmp_path / "mbpp"))
    assert (task.provenance["tests"], task.provenance["setup"]) == ("assert g() == 2", "import math")
    sums = drafts("openai/gsm8k", make(tmp_path / "gsm8k"))
    assert [draft.provenance["final"] for draft in sums] == ["72", ".5"]


def test_a_gathered_row_keeps_its_clip_once(tmp_path: Path) -> None:
    rows = published_rows("OpenSound/AudioCaps")
    room = 2000 + max(len(row["audio"]["bytes"]) for row in rows)  # for one clip, not for two
    gather = {**PUBLISHED["OpenSound/AudioCaps#clips"].spec["gather"], "max_bytes": room}
    first, second = drafts("OpenSound/AudioCaps#clips", tmp_path, gather=gather)
    assert [medium.data for medium in first.media + second.media] == [rows[at]["audio"]["bytes"] for at in (0, 2)]
