"""Specs at their door: typos, ranges, variables and settings, each with a message that names the field."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest

from shardkit.errors import SpecError
from shardkit.plain import parse_yaml
from shardkit.spec import BuildSpec, FilesSource, load_spec, spec_schema

MINIMAL = """
name: tiny
variables: {root: null}
sources:
  - {kind: files, name: docs, normalizer: plain_text, path: "${root}/docs"}
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL)
    return path


def rewritten(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_variable_is_filled_in(spec_file: Path) -> None:
    source = load_spec(spec_file, {"root": "/somewhere"}).sources[0]
    assert isinstance(source, FilesSource)
    assert source.path == "/somewhere/docs"


def test_missing_variable_is_named(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"needs a value for: root; add --set root="):
        load_spec(spec_file)


def test_setting_overrides_a_field_by_its_path(spec_file: Path) -> None:
    spec = load_spec(spec_file, {"root": "x", "limits.shard_samples": "7", "sources.docs.codec": "tar.zst"})
    assert spec.limits.shard_samples == 7
    assert spec.sources[0].codec == "tar.zst"


def test_unknown_setting_lists_what_there_is(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"--set rot: no variable or field of that name; there are: root, name"):
        load_spec(spec_file, {"rot": "x"})


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("normalizer: plain_text", "normalizer: plain_text, pth: x", r"unknown field `pth`.*sources\[0\]"),
        ("normalizer: plain_text", "normalizer: plain_text, sample: 0", "sample and limit must be at least 1"),
        ("name: docs", "name: Docs Folder", "lower-case letters"),
        ("kind: files", "kind: folder", "Invalid value 'folder'"),
        ("name: tiny", "name: tiny\nlimits: {memory_bytes: 5}", "limits.memory_bytes is 5"),
        ("name: tiny", "name: tiny\nlimits: {shard_bytes: 1e6}", "Expected `int`"),
        ("name: tiny", "name: tiny\ntotal: 0", "total is 0"),
        ("name: tiny", "name: tiny\nbudget_bytes: 0", "budget_bytes is 0"),
        ("name: tiny", "name: tiny\ngroups: {real: 0.3}", "group is ''; there are: real"),
        ("normalizer: plain_text", "normalizer: plain_text, group: real", "group is 'real'; there are: none"),
        ("name: tiny", "name: [", "not valid YAML"),
        ("name: tiny", "name: 2001-99-99", "not valid YAML"),
        ("name: tiny", "name: &a tiny\ndescription: *a", r"YAML alias"),
        ("${root}", "${rood}", r"\$\{rood\} is not declared"),
        ("name: tiny", "nam: tiny", r"did you mean `name`; there are: name, description, seed"),
        (
            "plain_text,",
            "plain_text, media: {image: {max_sid: 9}},",
            "did you mean `max_side`; there are: max_side, form",
        ),
        ("plain_text,", "plain_text, fallback: {kind: jsonl, pth: x},", "did you mean `path`"),
        ("kind: files", "kind: file", "did you mean `files`; there are: files, jsonl,"),
        ("plain_text,", "plain_text, codec: zst,", "there are: tar, tar.zst"),
        ("name: tiny", "name: tiny\nname: other", "`name` is given a second time in line 3"),
        ("name: tiny", "name: tiny\nlimits: {shard_samples: 1, shard_samples: 2}", "`shard_samples` is given a second"),
        ("{root: null}", "[root]", "`variables` is .*wanted a mapping"),
        ("name: tiny", "name: tiny\nseed: 99999999999999999999", "at most 64 bits"),
        ("name: tiny", "name: tiny\nlimits: {audio_seconds: .inf}", "found the number inf; wanted a finite one"),
        ("name: tiny", "name: tiny\ntotal: 0", "total is 0"),
        ("name: tiny", "name: " + "[" * 100_000, "nested more than 50 deep"),
    ],
)
def test_wrong_spec_is_refused_naming_the_field(spec_file: Path, old: str, new: str, wanted: str) -> None:
    with pytest.raises(SpecError, match=wanted):
        load_spec(rewritten(spec_file, old, new), {"root": "x"})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E6", -2e6),
        ("1.5e3", 1500.0),
        ("3.e2", 300.0),
        ("'1e-3'", "1e-3"),
        ("1e-3x", "1e-3x"),
        ("7", 7),
    ],
)
def test_numbers_with_an_exponent_are_numbers(written: str, value: object) -> None:
    found = parse_yaml(f"rate: {written}".encode(), "a spec")["rate"]
    assert found == value and type(found) is type(value)


def test_keys_that_are_equal_in_different_mappings_are_fine(spec_file: Path) -> None:
    rewritten(spec_file, "{kind: files,", "{columns: {name: kind, kind: name}, options: {name: x}, kind: files,")
    assert load_spec(spec_file, {"root": "x"}).sources[0].columns == {"name": "kind", "kind": "name"}


@pytest.mark.parametrize("value", ["99999999999999999999", ".nan", "[[1, 1e999]]", "&x"])
def test_setting_that_cannot_be_stored_is_refused(spec_file: Path, value: str) -> None:
    with pytest.raises(SpecError, match="seed"):
        load_spec(spec_file, {"root": "x", "seed": value})


def test_same_source_name_twice_is_refused() -> None:
    source = {"kind": "files", "name": "a", "normalizer": "plain_text", "path": "."}
    with pytest.raises(msgspec.ValidationError, match="given twice: a"):
        msgspec.convert({"name": "n", "sources": [source, source]}, BuildSpec)


def test_unreadable_spec_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", ["demo", "real", "real-data"])
def test_shipped_specs_fit_the_schema(name: str) -> None:
    path = Path(__file__).parent.parent / "specs" / "builds" / f"{name}.yaml"
    jsonschema.validate(msgspec.yaml.decode(path.read_bytes()), spec_schema())
    assert load_spec(path, {"root": "x"} if name.startswith("real") else {}).name == name
