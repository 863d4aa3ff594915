"""The entries of the catalog: all load, name what there is, and hold together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shardkit.errors import SpecError
from shardkit.records.normalize import check_normalizer
from shardkit.records.normalize.columns import MEDIA_TYPES
from shardkit.spec import GitSource
from shardkit.spec.catalog.choose import Choice, choose
from shardkit.spec.catalog.entry import Entry, is_type
from shardkit.spec.catalog.folder import catalog_folders, entry_names, find_entry, load_catalog, load_entry
from shardkit.spec.catalog.resolve import check_sources
from shardkit.spec.licences import LICENCE_CLASSES, ORDER, classify

DATASETS = [
    "ise-uiuc/Magicoder-OSS-Instruct-75K",
    "ise-uiuc/Magicoder-Evol-Instruct-110K",
    "nvidia/OpenMathInstruct-1",
    "nvidia/OpenMathInstruct-2",
    "Open-Orca/SlimOrca",
    "Open-Orca/SlimOrca-Dedup",
    "cognitivecomputations/dolphin",
    "QuixiAI/dolphin",
    "m-a-p/Code-Feedback",
    "m-a-p/CodeFeedback-Filtered-Instruction",
    "sahil2801/CodeAlpaca-20k",
    "glaiveai/glaive-code-assistant-v2",
    "bigcode/commitpackft",
    "HuggingFaceFW/fineweb",
    "HuggingFaceTB/cosmopedia",
    "HuggingFaceTB/cosmopedia-100k",
    "openbmb/UltraFeedback",
    "HuggingFaceH4/ultrafeedback_binarized",
    "nvidia/HelpSteer",
    "Anthropic/hh-rlhf",
    "berkeley-nest/Nectar",
    "PKU-Alignment/PKU-SafeRLHF",
    "PKU-Alignment/BeaverTails",
    "OpenAssistant/oasst2",
    "LDJnr/Pure-Dove",
    "HuggingFaceH4/no_robots",
    "unalignment/toxic-dpo-v0.1",
    "teknium/OpenHermes-2.5",
    "HuggingFaceM4/WebSight",
    "SALT-NLP/Design2Code",
    "SALT-NLP/Design2Code-hf",
    "SALT-NLP/Design2Code-HARD",
    "alexshengzhili/SciGraphQA-295K-train",
    "lmms-lab/ai2d",
    "lmms-lab-encoder/ai2d",
    "HuggingFaceM4/ChartQA",
    "lmms-lab/ChartQA",
    "lmms-lab-encoder/ChartQA",
    "lmms-lab/DocVQA",
    "lmms-lab-encoder/DocVQA",
    "HuggingFaceM4/DocumentVQA",
    "HuggingFaceM4/the_cauldron",
    "mozilla-foundation/common_voice_17_0",
    "fsicoli/common_voice_17_0",
    "fixie-ai/common_voice_17_0",
    "mozillaorg/common-voice",
    "openslr/librispeech_asr",
    "lmms-lab/librispeech",
    "lmms-lab-audio/librispeech",
    "cdjkim/audiocaps",
    "OpenSound/AudioCaps",
    "HuggingFaceFV/finevideo",
    "howto100m",
    "lmms-lab/YouCook2",
    "lmms-eval/YouCook2",
    "lmms-lab/LLaVA-Video-178K",
    "wchai/Video-Detailed-Caption",
    "cais/mmlu",
    "hails/mmlu_no_train",
    "openai/gsm8k",
    "openai/openai_humaneval",
    "google-research-datasets/mbpp",
    "MMMU/MMMU",
    "MMMU/MMMU_Pro",
    "AI4Math/MathVista",
]
REPOSITORIES = [
    "APIs-guru/openapi-directory",
    "flutter/samples",
    "android/architecture-samples",
    "docker/awesome-compose",
    "backstage/backstage",
    "astronomer/airflow-quickstart",
    "open-telemetry/opentelemetry-demo",
    "grafana/grafana",
    "mlflow/mlflow",
    "OWASP/CheatSheetSeries",
    "cloudflare/workers-sdk",
    "n8n-io/n8n",
]
KAGGLE = {
    "slimorca": "thedevastator/open-orca-slimorca-gpt-4-completions",
    "gsm8k": "thedevastator/grade-school-math-8k-q-a",
    "common-voice-1": "mozillaorg/common-voice",
}
"""The copies on Kaggle that somebody has seen; any other handle would be a guess."""

FILES = entry_names(catalog_folders())
CATALOG = load_catalog(catalog_folders())
NAMED = {entry.name: entry for entry in CATALOG}
SMALL = """
name: mine
title: Mine
group: text
id: me/mine
priority: 2
licence: mit
licence_class: free
configs: {default: {train: 10}}
columns: {question: string}
source: {kind: jsonl, path: mine.jsonl, normalizer: plain_text}
"""


@pytest.mark.parametrize("id", [*DATASETS, *REPOSITORIES])
def test_every_dataset_that_is_known_has_an_entry(id: str) -> None:
    assert id in {name for entry in CATALOG for name in (entry.id, *entry.former_ids)}


def test_repositories_are_twelve() -> None:
    found = choose(CATALOG, Choice(group="repository"))
    assert {entry.id for entry in found} == set(REPOSITORIES)
    assert len(found) == len(REPOSITORIES) == 12


@pytest.mark.parametrize("name", FILES)
def test_sources_of_every_entry_are_sources_that_there_are(name: str) -> None:
    for source in check_sources(NAMED[name], name).values():
        check_normalizer(source)


@pytest.mark.parametrize("name", FILES)
def test_columns_of_the_normaliser_are_columns_of_the_entry(name: str) -> None:
    entry = NAMED[name]
    sources = check_sources(entry, name)
    for variant, source in sources.items():
        if isinstance(source, GitSource):
            continue  # its rows are files
        named = {column.partition(".")[0] for column in source.columns.values()} - set(getattr(source, "archives", ()))
        unknown = {*named, *source.joined_columns} - set(entry.columns)
        assert variant in ("sanitized", "auxiliary-train") or not unknown


@pytest.mark.parametrize("name", FILES)
def test_split_and_config_are_in_the_entry(name: str) -> None:
    entry = NAMED[name]
    for source in check_sources(entry, name).values():
        config = getattr(source, "config", "")
        if entry.configs and hasattr(source, "split"):
            splits = entry.configs[config] if config else {split for own in entry.configs.values() for split in own}
            assert source.split in splits


def test_a_variant_builds_into_a_folder_of_its_own() -> None:
    names = [f"{entry.name}-{variant}" for entry in CATALOG for variant in entry.variants]
    assert len({*names, *NAMED}) == len(names) + len(NAMED)


def test_entries_name_each_other() -> None:
    named = {other for entry in CATALOG for other in (*entry.overlaps, entry.replacement) if other}
    assert named <= set(NAMED)


def test_licences_have_a_class() -> None:
    assert {entry.licence_class for entry in CATALOG} == set(LICENCE_CLASSES)
    unknown = {entry.name for entry in CATALOG if entry.licence == "unknown"}
    assert unknown <= {entry.name for entry in CATALOG if entry.licence_class in ("unknown", "research")}
    assert all(entry.licence_class == "non-commercial" for entry in CATALOG if "-nc" in entry.licence)
    assert all(entry.licence_class == "share-alike" for entry in CATALOG if "gpl" in entry.licence)


def test_classes_are_those_of_the_licences_unless_a_note_says_why() -> None:
    for entry in CATALOG:
        usual = classify(entry.licence)
        assert entry.licence_class == usual or entry.licence_note or "licence" in entry.doubtful
        assert ORDER.index(entry.licence_class) >= ORDER.index(usual) or usual == "unknown"


def test_media_types_are_known() -> None:
    for entry in CATALOG:
        for modality, types in entry.modalities.items():
            assert set(types) <= set(MEDIA_TYPES[modality])


def test_budgets_stay_within_what_a_disk_is_given() -> None:
    assert sum(entry.budget_bytes or 0 for entry in CATALOG) <= 500e9
    assert sum(entry.budget_bytes or 0 for entry in CATALOG if entry.modalities) <= 200e9
    assert all(entry.budget_bytes for entry in CATALOG if entry.is_readable)


def test_only_evidenced_copies_on_kaggle() -> None:
    assert {entry.name: entry.kaggle for entry in CATALOG if entry.kaggle} == KAGGLE


def test_benchmarks_are_held_out_and_come_first() -> None:
    for entry in choose(CATALOG, Choice(group="benchmark")):
        assert entry.held_out
        if entry.source is not None:
            assert entry.source["split"] in entry.held_out
    assert all(entry.group == "benchmark" for entry in choose(CATALOG, Choice(priority="0")))


def test_sets_that_teach_harm_warn() -> None:
    harmful = {"toxic-dpo-v0-1", "toxic-dpo-v0-2", "hh-rlhf-red-team"}
    assert {entry.name for entry in CATALOG if entry.content_warning} == harmful


def test_what_cannot_be_read_says_why() -> None:
    states = {entry.name: entry.state for entry in CATALOG if entry.state != "available"}
    assert states["common-voice-17-mozilla"] == "gone"
    assert states["finevideo"] == "gated"
    assert states["howto100m"] == states["common-voice-1"] == "metadata-only"
    assert NAMED["common-voice-17-mozilla"].replacement == "common-voice-17"
    assert all(NAMED[name].reason for name in states)


def test_facts_that_nobody_saw_are_marked() -> None:
    assert "rows" in NAMED["magicoder-oss"].unverified
    assert "rows" in NAMED["openmathinstruct-1"].doubtful
    assert "licence" in NAMED["openhermes-2-5"].doubtful
    assert not NAMED["cheat-sheets"].unverified
    marked = Counter(bool(entry.unverified or entry.doubtful) for entry in CATALOG)
    assert marked[True] > marked[False]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (Choice(modality="audio", licence="free", priority="1"), {"common-voice-17", "librispeech"}),
        (Choice(modality="video", state="gated"), {"finevideo"}),
        (Choice(group="repository", licence="share-alike,non-commercial"), {"grafana", "cheat-sheets", "n8n"}),
        (Choice(group="chat", priority="0-1", licence="unknown"), {"openhermes-2-5"}),
    ],
)  # fmt: skip
def test_filters(choice: Choice, names: set[str]) -> None:
    assert {entry.name for entry in choose(CATALOG, choice)} == names


@pytest.mark.parametrize(
    "choice", [Choice(group="txt"), Choice(priority="7"), Choice(priority="3-1"), Choice(licence="mit")]
)
def test_filters_refuse_what_there_is_not(choice: Choice) -> None:
    with pytest.raises(SpecError, match="there are: "):
        choose(CATALOG, choice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("state: gone\n", "leave out `source`"),
        ("state: gated\nreason: because\n", "`gated` must be true"),
        ("unverified: [rows]\ndoubtful: [rows]\n", "both unverified and doubtful"),
        ("held_out: [tst]\n", "no config has: tst"),
        ("kaggle: somewhere\n", "OWNER/DATASET"),
        ("sample_size: 0\n", "at least 1"),
        ("licenses: mit\n", "did you mean `licence`"),
        ("unverified: [roes]\n", "did you mean `rows`"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL + change)
    with pytest.raises(SpecError, match=message):
        load_entry(path)


def test_an_entry_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(SMALL)
    with pytest.raises(SpecError, match=r"must be called mine\.yaml"):
        load_entry(path)


@pytest.mark.parametrize("kind", ["string", "list<list<string>>", "struct<a,b>", "list<struct<from,value>>"])
def test_types_of_columns(kind: str) -> None:
    assert is_type(kind)
    assert not is_type(kind + "?") and not is_type(f"list<{kind}") and not is_type("text")


def test_own_entries_come_before_those_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "slimorca.yaml").write_text(SMALL.replace("mine", "slimorca"))
    folders = catalog_folders(tmp_path)
    assert find_entry("slimorca", folders).title == "Mine"
    assert len(load_catalog(folders)) == len(CATALOG)
    with pytest.raises(SpecError, match="no such folder"):
        catalog_folders(tmp_path / "absent")


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("slimorka", "slimorca"),
        ("hhrlhf", "hh-rlhf"),
        ("OpenHermes", "openhermes-2-5"),
        ("common_voice", "common-voice-17"),
    ],
)
def test_a_mistyped_name_gives_the_near_ones(typed: str, near: str) -> None:
    with pytest.raises(SpecError, match=rf"did you mean .*{near}"):
        find_entry(typed, catalog_folders())


def test_entries_are_found_by_the_id_of_their_host() -> None:
    found: Entry = find_entry("anthropic/HH-RLHF", catalog_folders())
    assert found.name == "hh-rlhf"
    assert find_entry("ehartford/dolphin", catalog_folders()).name == "dolphin"
