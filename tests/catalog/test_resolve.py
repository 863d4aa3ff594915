"""Entries of the catalog as sources of a build: by name, within a spec, field by field otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from shardkit.build.plan import make_plan
from shardkit.errors import SpecError
from shardkit.spec import BuildSpec, FilesSource, GitSource, JsonlSource, load_named, load_spec, open_spec, spec_schema

ENTRY = """
name: mine
title: Mine
group: text
id: me/mine
priority: 2
licence: mit
licence_class: free
sample_size: 30
configs: {default: {train: 10}}
columns: {q: string, a: string}
source:
  kind: jsonl
  path: ROOT/rows.jsonl
  normalizer: question_answer
  columns: {question: q, answer: a}
  options: {marks: true}
  media: {image: {max_side: 100}, audio: {sample_rate: 8000}}
  domain: tests
variants:
  plain: {normalizer: plain_text, columns: {text: q}}
  folder: {kind: files, path: ROOT, normalizer: plain_text}
"""
GONE = """
name: lost
title: Lost
group: text
id: me/lost
priority: 4
licence: mit
licence_class: free
state: gone
reason: It was withdrawn.
replacement: mine
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "mine.yaml").write_text(ENTRY.replace("ROOT", str(tmp_path)))
    (folder / "lost.yaml").write_text(GONE)
    rows = ({"q": f"what is {at}?", "a": f"it is {at}"} for at in range(10))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def written(folder: Path, sources: str, head: str = "") -> Path:
    path = folder / "spec.yaml"
    path.write_text(f"name: tiny\n{head}\nsources:\n  - {sources}\n")
    return path


def loaded(folder: Path, sources: str, settings: dict[str, str] | None = None) -> BuildSpec:
    return load_spec(written(folder, sources), settings, folder / "catalog")


def fields(spec: BuildSpec) -> dict[str, Any]:
    raw: dict[str, Any] = msgspec.to_builtins(spec.sources[0])
    return raw


def test_a_name_is_a_build_of_one_source(catalog: Path) -> None:
    spec = load_named("mine", catalog=catalog)
    source = spec.sources[0]
    assert spec.name == source.name == "mine"
    assert isinstance(source, JsonlSource)
    assert (source.licence, source.limit, source.domain) == ("mit", 30, "tests")
    assert open_spec("mine", catalog=catalog) == load_named("me/mine", catalog=catalog) == spec


def test_a_variant_is_another_reading(catalog: Path) -> None:
    spec = load_named("mine:plain", catalog=catalog)
    assert spec.name == spec.sources[0].name == "mine-plain"
    assert spec.sources[0].columns == {"text": "q"}
    assert spec.sources[0].options == {}, "options of another normaliser"
    folder = load_named("mine:folder", catalog=catalog).sources[0]
    assert isinstance(folder, FilesSource)
    assert folder.domain == "tests"
    assert folder.fallback == load_named("mine", catalog=catalog).sources[0]
    with pytest.raises(SpecError, match="no variant 'pln'; there are: plain, folder"):
        load_named("mine:pln", catalog=catalog)


def test_a_source_of_a_spec_stands_in_the_catalog(catalog: Path, tmp_path: Path) -> None:
    source = loaded(tmp_path, "{kind: catalog, entry: mine, name: own, limit: 3, licence: cc0-1.0}").sources[0]
    assert (source.name, source.limit, source.licence) == ("own", 3, "cc0-1.0")
    assert source.columns == {"question": "q", "answer": "a"}


def test_nested_settings_are_replaced_one_by_one_columns_all_at_once(catalog: Path, tmp_path: Path) -> None:
    given = "{kind: catalog, entry: mine, media: {image: {quality: 50}}, columns: {question: a, answer: q}}"
    raw = fields(loaded(tmp_path, given))
    assert (raw["media"]["image"]["max_side"], raw["media"]["image"]["quality"]) == (100, 50)
    assert raw["media"]["audio"]["sample_rate"] == 8000
    assert raw["columns"] == {"question": "a", "answer": "q"}
    assert raw["options"] == {"marks": True}


def test_settings_reach_a_source_by_the_name_of_its_entry(catalog: Path, tmp_path: Path) -> None:
    spec = loaded(tmp_path, "{kind: catalog, entry: mine, variant: plain}", {"sources.mine-plain.limit": "4"})
    assert spec.sources[0].limit == 4


def test_variables_are_filled_in_before_the_entry_is_looked_up(catalog: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "{kind: catalog, entry: '${which}', name: own}", "variables: {which: lost}")
    assert load_spec(path, {"which": "mine"}, catalog).sources[0].domain == "tests"


def test_a_fallback_stands_in_the_catalog_too(catalog: Path, tmp_path: Path) -> None:
    fallback = "fallback: {kind: catalog, entry: mine}"
    given = f"{{kind: generated, name: own, generator: dtmf, count: 3, normalizer: transcript, {fallback}}}"
    found = loaded(tmp_path, given).sources[0].fallback
    assert isinstance(found, JsonlSource)
    assert found.name == "mine"


def test_the_plan_depends_on_the_resolved_values_only(catalog: Path, tmp_path: Path) -> None:
    by_name = loaded(tmp_path, "{kind: catalog, entry: mine, name: own}")
    raw = fields(by_name)
    path = tmp_path / "written.json"
    path.write_bytes(msgspec.json.encode({"name": "tiny", "sources": [{**raw, "kind": "jsonl"}]}))
    (catalog / "mine.yaml").write_text((catalog / "mine.yaml").read_text().replace("title: Mine", "title: Other"))
    again = loaded(tmp_path, "{kind: catalog, entry: mine, name: own}")
    plans = [
        make_plan(spec, sample=None, folder=tmp_path / f"pins{at}")
        for at, spec in enumerate((by_name, load_spec(path), again))
    ]
    assert len({plan.digest for plan in plans}) == 1


def test_entries_beside_the_spec(catalog: Path, tmp_path: Path) -> None:
    catalog.rename(tmp_path / "sources")
    assert load_spec(written(tmp_path, "{kind: catalog, entry: mine}")).sources[0].name == "mine"


def test_what_is_gone_says_so_with_its_replacement(catalog: Path, tmp_path: Path) -> None:
    wanted = r"lost \(Lost\) is gone: It was withdrawn; take mine in its place"
    with pytest.raises(SpecError, match=wanted):
        load_named("lost", catalog=catalog)
    with pytest.raises(SpecError, match=wanted):
        loaded(tmp_path, "{kind: catalog, entry: lost}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{kind: catalog, entry: mien}", "no entry 'mien'; did you mean mine"),
        ("{kind: catalog, entry: mine, limt: 3}", "did you mean `limit`"),
        ("{kind: catalog}", r"source 1: .*missing required field `entry`"),
        ("{kind: catalog, entry: 7}", r"source 1: Expected `str`"),
        ("{kind: catalog, entry: mine, limit: 0}", "at least 1"),
    ],
)
def test_a_wrong_reference_is_told(catalog: Path, tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        loaded(tmp_path, source)


def test_a_folder_is_not_in_the_way_of_an_entry(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_spec("mine", catalog=catalog).name == "mine"
    with pytest.raises(SpecError, match=r"cannot read the spec .*mine: Is a directory"):
        open_spec(str(tmp_path / "mine"), catalog=catalog)


def test_neither_a_file_nor_an_entry() -> None:
    with pytest.raises(
        SpecError, match=r"slimorka: no such file, no mix .*, and the catalog has no entry .* did you mean slimorca"
    ):
        open_spec("slimorka")
    with pytest.raises(SpecError, match=r"cannot read the spec slimorca.yaml"):
        open_spec("slimorca.yaml")


def test_repositories_of_the_catalog_are_git_sources() -> None:
    source = load_named("awesome-compose").sources[0]
    assert isinstance(source, GitSource)
    assert source.url == "https://github.com/docker/awesome-compose"
    assert (source.licence, source.limit) == ("cc0-1.0", 300)


def test_the_schema_for_editors_knows_the_catalog(catalog: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "{kind: catalog, entry: mine, limit: 3}")
    jsonschema.validate(msgspec.yaml.decode(path.read_bytes()), spec_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "tiny", "sources": [{"kind": "catalog"}]}, spec_schema())


def test_a_mix_is_built_by_its_name() -> None:
    assert open_spec("censored").name == "censored" and len(open_spec("censored").sources) == 6
    assert open_spec("uncensored", {"total": "10"}).total == 10
