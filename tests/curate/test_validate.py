"""Validation and import: good data passes, every kind of fault is named with examples, plain data becomes a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset
from shardkit.cli.main import app
from shardkit.curate.quality import parse_gates
from shardkit.curate.sketch import Distinct
from shardkit.curate.validate import Validation, validate
from shardkit.errors import PolicyRefused, SourceChanged
from shardkit.records.row import Prepared
from shardkit.records.sample import Message
from shardkit.report.validation import write_validation
from shardkit.spec import Rules
from tests.read.made import image_sample, make_dataset, text_sample

CHAT = [{"role": "user", "content": "What is it? <|image|>"}, {"role": "assistant", "content": "A square."}]

USER, ANSWER = Message(role="user", content="So?"), Message(role="assistant", content="So.")
MARKED = Message(role="user", content="<|image|> So?")
BLANK, BLANK_ANSWER = Message(role="user", content=" "), Message(role="assistant", content="\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Plain data: a picture, a recording, rows that are good and rows that are not."""
    (tmp_path / "media").mkdir()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "media" / "a.png")
    soundfile.write(tmp_path / "media" / "a.wav", np.zeros(8000, dtype=np.float32), 16000)
    (tmp_path / "media" / "broken.png").write_bytes((tmp_path / "media" / "a.png").read_bytes()[:40])
    (tmp_path.parent / "outside.png").write_bytes((tmp_path / "media" / "a.png").read_bytes())
    return tmp_path


def rows_of(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


GOOD: tuple[dict[str, Any], ...] = (
    {"id": "one", "messages": CHAT, "modalities": {"image": [{"path": "media/a.png", "type": "chart"}]}},
    {"messages": [{**CHAT[0], "content": "<image>\nWhat?"}, CHAT[1]], "images": ["media/a.png"], "category": "seen"},
    {"messages": [{"role": "user", "content": "Write it down."}, {"role": "assistant", "content": "Silence."}],
     "audios": ["media/a.wav"], "licence": "cc0-1.0"},
    {"messages": [{"role": "user", "content": "Which?"}], "preference": {"chosen": "This.", "rejected": "That."}},
    {"modalities": {"image": [{"file": "media/a.png", "description": "a red square"}]}},
)  # fmt: skip
BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"messages": CHAT, "images": ["media/none.png"]}, "no-media"),
    ({"messages": CHAT, "images": ["../outside.png"]}, "no-media"),
    ({"messages": CHAT, "images": ["/etc/passwd"]}, "no-media"),
    ({"messages": CHAT, "images": ["https://host/a.png"]}, "no-media"),
    ({"messages": CHAT, "images": ["longer than any name/" + "x" * 5000]}, "no-media"),
    ({"messages": CHAT, "images": ["media/a.png\0"]}, "no-media"),
    ({"messages": CHAT, "images": ["media/broken.png"]}, "image-damaged"),
    ({"messages": CHAT, "images": ["media/a.png", "media/a.png"]}, "schema"),
    ({"messages": CHAT, "modalities": {"image": [{"path": "media/a.png", "type": "painting"}]}}, "schema"),
    ({"messages": [CHAT[1], CHAT[1]]}, "bad-role"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "bad-role"),
    ({"messages": []}, "missing-field"),
    ({"messages": [{"role": "user", "content": "?"}], "preference": {"chosen": "a", "rejected": "a"}}, "schema"),
    ({"messages": [{"role": "user", "content": "?"}], "preference": {"chosen": "a"}}, "missing-field"),
)


def reasons(found: Validation) -> dict[str, int]:
    return {fault.reason: fault.samples for fault in found.faults}


def test_nothing_to_check_is_an_error(folder: Path) -> None:
    with pytest.raises(SpecError, match="nothing was checked"):
        validate(str(rows_of(folder)), Rules())


def test_no_report_holds_a_secret(folder: Path) -> None:
    token = "ghp_" + "aB3dE6gH9" * 4
    path = rows_of(
        folder,
        {"messages": CHAT, "images": [f"media/{token}.png"]},
        {"messages": CHAT, "images": [f"https://host/a.png?key={token}"]},
        {"messages": CHAT, "category": token},
    )
    for rules in (Rules(), Rules(secrets="refuse")):
        found = validate(str(path), rules)
        told = msgspec.json.encode(found).decode() + found.text()
        assert token not in told and "relative to the folder" in told and "media/[redacted github-token].png" in told


def test_good_plain_rows_are_good_and_are_imported_as_they_are(folder: Path) -> None:
    path = rows_of(folder, *GOOD)
    found = validate(str(path), Rules())
    assert found.passed and found.samples == 5
    app(["import", str(path), "--out", str(folder / "data"), "--licence", "mit"], standalone_mode=False)
    samples = [item.sample for item in open_dataset(folder / "data")]
    assert [sample.licence for sample in samples] == ["mit", "mit", "cc0-1.0", "mit", "mit"]
    assert samples[0].id == "one" and samples[0].modalities.image[0].type == "chart"
    assert samples[1].category == "seen" and samples[1].messages[0].content == "<|image|>\nWhat?"
    assert samples[2].messages[0].content == "<|audio|>\nWrite it down." and samples[2].category == "imported"
    assert samples[3].preference is not None and samples[3].preference.chosen == "This."
    assert samples[4].messages == () and samples[4].modalities.image[0].description == "a red square"
    assert validate(str(folder / "data"), Rules()).passed


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_bad_row_has_its_reason(folder: Path, row: dict[str, Any], reason: str) -> None:
    found = validate(str(rows_of(folder, GOOD[0], row)), Rules())
    assert (found.samples, found.good, reasons(found)) == (2, 1, {reason: 1})


def test_what_validation_refuses_an_import_refuses_too(folder: Path) -> None:
    path = rows_of(folder, *GOOD, *(row for row, _ in BAD))
    found = validate(str(path), Rules())
    app(["import", str(path), "--out", str(folder / "data")], standalone_mode=False)
    (lane,) = open_dataset(folder / "data").manifest.lanes.values()
    assert lane.refused == reasons(found) and lane.samples == found.good


def test_a_folder_of_lines_finds_media_beside_each_file(folder: Path) -> None:
    (folder / "deep").mkdir()
    rows_of(folder, GOOD[0])
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "deep" / "b.png")
    (folder / "deep" / "more.jsonl").write_bytes(msgspec.json.encode({"messages": CHAT, "images": ["b.png"]}) + b"\n")
    found = validate(str(folder), Rules())
    assert found.passed and found.samples == 2


def test_links_that_lead_out_of_the_folder_are_no_media(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (8, 8), (0, 0, 255)).save(outside / "b.png")
    (folder / "media" / "link.png").symlink_to(outside / "b.png")
    (folder / "out").symlink_to(outside)
    rows = [{"messages": CHAT, "images": [path]} for path in ("media/link.png", "out/b.png")]
    found = validate(str(rows_of(folder, GOOD[0], *rows)), Rules())
    assert (found.good, reasons(found)) == (1, {"no-media": 2})


def test_media_that_changed_since_planned_are_noticed(folder: Path) -> None:
    from shardkit.sources.plain import Plain
    from shardkit.spec import Limits, PlainSource

    path = rows_of(folder, GOOD[0])
    source = Plain(PlainSource(name="p", path=str(path), normalizer="plain"), Limits())
    (folder / "pins").mkdir()
    before = source.pin(folder / "pins").revision
    Image.new("RGB", (16, 16), (0, 0, 0)).save(folder / "media" / "a.png")
    with pytest.raises(SourceChanged, match=r"a\.png"):
        list(source.rows(folder / "pins", 0, 1, None))
    assert source.pin(folder / "pins").revision != before


def test_rules_gates_duplicates_and_findings_are_reported(folder: Path) -> None:
    token = "ghp_" + "aB3dE6gH9" * 4
    chat = [{"role": "user", "content": f"My token is {token}"}, {"role": "assistant", "content": "Hide it."}]
    path = rows_of(folder, GOOD[3], GOOD[3], {"messages": chat}, {**GOOD[0], "licence": "cc-by-nc-4.0"})
    kept = validate(str(path), Rules())
    assert reasons(kept) == {"duplicate": 1} and kept.found == {"github-token": 1}
    gates = parse_gates(["validity=0.9", "distinct=0.5"])
    found = validate(str(path), Rules(secrets="refuse", licences=("free", "unknown")), gates)
    assert reasons(found) == {"duplicate": 1, "licence": 1, "secret": 1}
    assert found.broken_gates == ("imported: validity is 0.25, wanted 0.9",)
    text = found.text() + write_validation(found, folder / "page.html").read_text()
    assert token not in text and "[redacted github-token]" in text
    for gate in ("validity", "beauty=1", "validity=nan", "validity=x"):
        with pytest.raises(SpecError, match="gate"):
            parse_gates([gate])


def built(folder: Path, **more: Any) -> Path:
    sources = [
        {"kind": "generated", "name": "screens", "generator": "ui_mockup", "normalizer": "question_answer", "count": 4},
        {"kind": "generated", "name": "tones", "generator": "dtmf", "normalizer": "transcript", "count": 4},
        {"kind": "generated", "name": "notes", "generator": "notes", "normalizer": "question_answer", "count": 40},
    ]
    spec = convert_spec({"name": "made", "sources": sources, **more}, BuildSpec, "test")
    build_dataset(spec, out=folder / "made", workers=0)
    return folder / "made"


def test_what_was_built_is_good_with_measures_of_every_category(folder: Path) -> None:
    found = validate(str(built(folder)), Rules())
    assert found.passed and found.samples == 48
    assert found.categories["transcript"].modalities == {"audio+text": 1.0}
    answers = found.categories["question_answer"]
    assert answers.validity == answers.distinct == 1.0 and answers.characters.p5 <= answers.characters.p95


def text(number: int, *messages: Message) -> Prepared:
    """A sample of text, with other messages where some are given."""
    made = text_sample(number).sample
    return Prepared(sample=msgspec.structs.replace(made, messages=messages or made.messages))


STORED: tuple[tuple[Prepared, str], ...] = (
    (image_sample(1), "image-damaged"),  # bytes that are no image
    (text(1, USER, USER), "bad-role"),
    (text(2, MARKED, ANSWER), "schema"),
    (text(3, BLANK, BLANK_ANSWER), "empty-text"),
)


@pytest.mark.parametrize(("sample", "reason"), STORED)
def test_a_stored_sample_that_is_not_good_is_named(folder: Path, sample: Prepared, reason: str) -> None:
    make_dataset(folder / "stored", [[text(9), sample]])
    found = validate(str(folder / "stored"), Rules())
    assert (found.samples, found.good, reasons(found)) == (2, 1, {reason: 1})


def test_the_commands_write_reports_and_fail_where_data_is_not_good(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = folder / "good", folder / "bad"
    good.mkdir(), bad.mkdir()
    (good / "rows.jsonl").write_bytes(msgspec.json.encode(GOOD[3]) + b"\n")
    (bad / "rows.jsonl").write_bytes(b"no json\n" + msgspec.json.encode(GOOD[3]) + b"\n")
    app(["validate", str(good), "--report", str(folder / "r.json")], standalone_mode=False)
    assert msgspec.json.decode((folder / "r.json").read_bytes())["good"] == 1
    capsys.readouterr()
    with pytest.raises(PolicyRefused, match="1 samples are not good"):
        app(["validate", str(bad), "--json", "--page", str(folder / "p.html")], standalone_mode=False)
    told = msgspec.json.decode(capsys.readouterr().out, type=Validation)
    assert reasons(told) == {"not-json": 1} and "not-json" in (folder / "p.html").read_text()
    with pytest.raises(SpecError, match="is no dataset: found nothing"):
        validate(str(folder / "nothing"), Rules())


@given(st.lists(st.integers(0, 500)), st.integers(8, 64))
def test_different_texts_are_counted_nearly_and_in_any_order(numbers: list[int], kept: int) -> None:
    one, other = Distinct(kept), Distinct(kept)
    for number in numbers:
        one.add(str(number))
    for number in reversed(numbers):
        other.add(str(number))
    true = len(set(numbers))
    assert one.count == other.count
    assert one.count == true if true <= kept else abs(one.count - true) < 6 * true / kept**0.5
