"""Everything in the folder of real data through its reader and normaliser: built, checked, divided, accounted for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shardkit import Dataset, Sample, build_dataset, load_spec, open_dataset
from shardkit.curate.dedup import find, near_labels, scratch_folder
from shardkit.curate.licences import sum_licences
from shardkit.curate.records import read_records
from shardkit.curate.validate import validate
from shardkit.media.prepare import check_member
from shardkit.read.listing import list_samples
from shardkit.report.duplicates import write_duplicates
from shardkit.report.lineage import trace_sample
from shardkit.spec import BuildSpec, DedupOptions, FilesSource, GitSource, JsonlSource, Rules
from shardkit.store.layout import CARDS_FOLDER, DeadLetter
from shardkit.store.manifest import read_dead_letters

SPEC = Path(__file__).resolve().parent.parent / "specs" / "builds" / "real-data.yaml"

SAMPLES = {
    "gsm8k": 1000, "humaneval": 164, "grids": 60, "documents": 20, "pages": 20, "styles": 5, "compose": 217,
    "images": 16, "speech": 1, "prompts": 25, "film": 1,
}  # fmt: skip
SPLITS = ("train", "val", "test")

NOT_DATA = {"SOURCES.md": "says of the other files what they are and under which licence"}
"""Files that no source reads, and why."""

DEAD_LETTERS = {
    ("compose", "filtered", "django/app/example/__init__.py"): "an empty file teaches nothing",
    ("compose", "filtered", "fastapi/app/__init__.py"): "an empty file teaches nothing",
    ("compose", "filtered", "react-java-mysql/frontend/src/react-app-env.d.ts"): "40 characters, one reference",
}
"""Rows that are refused, and why that is right."""


@pytest.fixture(scope="module")
def spec(shared_data: Path) -> BuildSpec:
    return load_spec(SPEC, {"root": str(shared_data)})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, spec: BuildSpec) -> Path:
    folder = tmp_path_factory.mktemp("real-data") / "data"
    build_dataset(spec, out=folder, workers=0)
    return folder


@pytest.fixture(scope="module")
def dataset(built: Path) -> Dataset:
    return open_dataset(built)


@pytest.fixture(scope="module")
def records(dataset: Dataset) -> dict[tuple[int, int], Sample]:
    """Every sample's record by its place."""
    return {(shard, ordinal): record for shard, ordinal, record in read_records(dataset)}


def test_every_sample_is_built_and_good(built: Path, dataset: Dataset) -> None:
    assert dataset.manifest.totals.by_source == SAMPLES
    assert not dataset.verify(deep=check_member).damages
    found = validate(str(built), Rules(secrets="refuse", licences=("free", "share-alike")))
    assert (found.good, found.samples, found.faults) == (sum(SAMPLES.values()), sum(SAMPLES.values()), ())


def test_every_dead_letter_is_explained(dataset: Dataset) -> None:
    assert {(letter.source, letter.reason, letter.position) for letter in dead_letters(dataset)} == set(DEAD_LETTERS)


def test_no_file_is_forgotten(spec: BuildSpec, records: dict[tuple[int, int], Sample], shared_data: Path) -> None:
    there = {path.relative_to(shared_data).as_posix() for path in shared_data.rglob("*") if path.is_file()}
    read = {str(file_of(sample, spec, shared_data)) for sample in records.values()}
    assert read | set(NOT_DATA) == there


def test_licences_are_those_that_the_folder_states(
    spec: BuildSpec, records: dict[tuple[int, int], Sample], shared_data: Path
) -> None:
    stated = stated_licences(shared_data)
    for sample in records.values():
        path = file_of(sample, spec, shared_data)
        [licence] = [licence for pattern, licence in stated.items() if matches(path, pattern)]
        assert sample.licence.replace("-", " ").lower() == licence.replace("-", " ").lower()


def test_what_belongs_together_is_on_one_side(dataset: Dataset, records: dict[tuple[int, int], Sample]) -> None:
    """Files of one project of the repository, and near-duplicates."""
    sides = {
        (listed.shard, listed.ordinal): name for name in SPLITS for listed in list_samples(dataset, f"split={name}")
    }
    assert sides.keys() == records.keys()
    projects: dict[str, set[str]] = {}
    for place, record in records.items():
        if record.source == "compose" and "/" in record.provenance["path"]:
            projects.setdefault(record.provenance["path"].partition("/")[0], set()).add(sides[place])
    assert len(projects) > 20 and all(len(names) == 1 for names in projects.values())
    assert {name for names in projects.values() for name in names} == set(SPLITS)
    clusters: dict[str, set[str]] = {}
    for place, label in near_labels(dataset).items():
        clusters.setdefault(label, set()).add(sides[place])
    assert len(clusters) == 9 and all(len(names) == 1 for names in clusters.values())


def test_duplicates_are_shown_and_nothing_is_published(built: Path, dataset: Dataset, tmp_path: Path) -> None:
    with scratch_folder() as folder:
        found = find(dataset, DedupOptions(), folder)
    page = write_duplicates(dataset, found, tmp_path / "duplicates.html").read_text()
    assert (found.count("duplicate"), found.count("near-duplicate"), found.clusters) == (0, 10, 9)
    assert "compose" in page
    assert open_dataset(built).version == dataset.version


def test_licences_lineage_and_card_account_for_it(
    built: Path, dataset: Dataset, records: dict[tuple[int, int], Sample]
) -> None:
    summed = sum_licences(dataset, ("free", "share-alike"))
    assert not summed.refused and sum(entry.samples for entry in summed.licences) == len(records)
    assert {entry.source for entry in sum_licences(dataset, ("free",)).refused} == {"documents", "images", "prompts"}
    for listed in list_samples(dataset):
        if listed.ordinal == 0:  # the first of each source
            record, traced = records[listed.shard, 0], trace_sample(dataset, listed.key)
            assert (traced.source, traced.row) == (record.source, record.provenance["position"])
            assert traced.licence == record.licence and traced.licence_class in ("free", "share-alike")
    card = (built / CARDS_FOLDER / f"{dataset.version}.md").read_text()
    assert all(f"| {name} |" in card for name in (*SAMPLES, *SPLITS))
    assert "| refused: filtered | 3 |" in card
    assert "extensions py js ts " in card


def dead_letters(dataset: Dataset) -> list[DeadLetter]:
    return [letter for ref in dataset.manifest.dead_letters for letter in read_dead_letters(dataset.store, ref)]


def file_of(sample: Sample, spec: BuildSpec, root: Path) -> Path:
    """The file that a sample came from, within the folder."""
    [source] = [source for source in spec.sources if source.name == sample.source]
    if isinstance(source, GitSource):
        return Path(source.url).relative_to(root)
    assert isinstance(source, FilesSource | JsonlSource)
    path, position = Path(source.path), re.sub(r":\d+$", "", sample.provenance["position"])
    return (path if path.is_file() else path / position).relative_to(root)


def stated_licences(root: Path) -> dict[str, str]:
    """Patterns of paths and their licences in the table of SOURCES.md."""
    rows = [line.strip("| ").split(" | ") for line in (root / "SOURCES.md").read_text().splitlines() if "|" in line]
    return {pattern: re.sub(r" \(.*\)", "", licence) for pattern, _, licence in rows[2:]}


def matches(path: Path, pattern: str) -> bool:
    folder, _, _ = pattern.partition("/**")
    return path.is_relative_to(folder) if "**" in pattern else path.match(pattern)
