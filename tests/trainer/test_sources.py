"""Several datasets by `--data` or by the run's spec: weights, versions, held-out samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from shardkit import Mixture, NotADataset, SpecError, open_dataset
from tests.trainer.datasets import build_small, generated, screens, tiny_run
from tests.trainer.runs import quiet
from trainer.checkpoint import read_progress
from trainer.cli.main import app
from trainer.data.reading import to_mix
from trainer.data.sources import choose_sources, open_data, versions_of
from trainer.eval.heldout import read_held_out
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.setting import reading_of
from trainer.spec import DataSpec, ModelSpec, SourceSpec, load_run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("two")
    notes = build_small(root / "notes", generated("notes", "notes", "question_answer", 24))
    return [str(notes), str(build_small(root / "screens", screens(24)))]


def test_a_weight_is_a_prefix_of_its_url() -> None:
    urls = ["0.7=https://host/a?b=c", "data=x/y", ".5=s3://bucket/b", "2=c"]
    found = choose_sources(urls, DataSpec())
    assert [(source.url, source.weight) for source in found] == [
        ("https://host/a?b=c", 0.7),
        ("data=x/y", None),
        ("s3://bucket/b", 0.5),
        ("c", 2.0),
    ]
    assert choose_sources("a", DataSpec()) == (SourceSpec(url="a"),)
    with pytest.raises(SpecError, match=r"--data 0=a: the weight of a is 0\.0; a positive number"):
        choose_sources(["0=a"], DataSpec())


def test_options_stand_before_the_spec_and_one_of_them_must_name_data() -> None:
    spec = DataSpec(datasets=(SourceSpec(url="a"), SourceSpec(url="b", weight=2.0)))
    assert choose_sources((), spec) == spec.datasets
    assert choose_sources(["c"], spec) == (SourceSpec(url="c"),)
    with pytest.raises(SpecError, match=r"no dataset to read; give --data URL, or data\.datasets"):
        choose_sources((), DataSpec())


def test_a_plain_list_in_yaml_stands_for_the_datasets(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    raw = msgspec.to_builtins(tiny_run(tiny_spec)) | {"data": [{"url": "a", "weight": 0.5}, {"url": "b"}]}
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(raw))
    assert load_run(path).data.datasets == (SourceSpec(url="a", weight=0.5), SourceSpec(url="b"))
    assert load_run(path, {"data.max_tokens": "64"}).data.max_tokens == 64


def test_weights_of_which_some_are_left_out_count_one(two: list[str]) -> None:
    plain = open_data(choose_sources(two, DataSpec()))
    assert isinstance(plain, Mixture) and plain.weights is None
    weighted = open_data(choose_sources([f"0.5={two[0]}", two[1]], DataSpec()))
    assert isinstance(weighted, Mixture) and weighted.weights == (0.5, 1.0)
    assert versions_of(plain) == "+".join(open_dataset(url).version for url in two)
    assert versions_of(open_data(choose_sources(two[0], DataSpec()))) == open_dataset(two[0]).version


def test_the_schedule_counts_steps_of_the_run_and_samples_with_packs(tiny_spec: ModelSpec) -> None:
    mix = {"schedule": [{"step": 3, "weights": [1, 2]}], "exhausted": "stop"}
    spec = tiny_run(tiny_spec, accumulate=2, data={"mix": mix})
    found = to_mix(reading_of(spec))
    assert found is not None and found.schedule == ((6, (1.0, 2.0)),) and found.exhausted == "stop"
    packed = tiny_run(tiny_spec, accumulate=2, data={"mix": mix, "max_tokens": 64, "pack": {"tokens": 64}})
    found = to_mix(reading_of(packed))
    assert found is not None and found.schedule == ((3, (1.0, 2.0)),)


@pytest.mark.parametrize("pack", [None, {"tokens": 256}], ids=["rows", "packs"])
def test_train_and_eval_on_several_datasets(
    pack: dict[str, Any] | None, two: list[str], tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    spec = tiny_run(tiny_spec, steps=4, data={"max_tokens": 128, "held_out": 0.25, "pack": pack})
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(spec))
    options = ["--data", f"0.8={two[0]}", "--data", f"0.2={two[1]}"]
    result = CliRunner().invoke(app, ["train", str(path), *options, "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    lines = read_metrics(tmp_path / "out")
    assert len(lines) == 4 and set(lines[-1]["loss_by_modality"]) <= {"text", "image"}
    epochs = [list(line["source_epochs"].values()) for line in lines]
    assert set(lines[0]["source_epochs"]) == set(two) and epochs == sorted(epochs) and epochs[-1][0] > epochs[-1][1]
    progress = read_progress(tmp_path / "out" / "checkpoints" / "step-00000004")
    assert progress.version == "+".join(open_dataset(url).version for url in two)
    result = CliRunner().invoke(app, ["eval", str(tmp_path / "out"), *options, "--json"])
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.output.splitlines()[-1])["after"]["by_modality"]) == {"text", "image"}


def test_held_out_samples_of_a_mixture_come_once_each(two: list[str], tiny_spec: ModelSpec, speech: Any) -> None:
    from trainer.model.omni import Omni

    spec = tiny_run(tiny_spec, data={"max_tokens": 512, "held_out": 0.9})
    senses = Omni(spec.model, speech).senses
    mixture = open_data(choose_sources([f"9={two[0]}", two[1]], DataSpec()))  # the first again and again
    rows = read_held_out(mixture, reading_of(spec), speech, senses, 1000)
    keys = [key for key, _ in rows]
    assert len(keys) == len(set(keys)) > 30 and keys == sorted(keys)


def test_a_resume_with_other_datasets_is_refused(two: list[str], tiny_spec: ModelSpec, tmp_path: Path) -> None:
    spec = tiny_run(tiny_spec, steps=2)
    train(spec, two, tmp_path, report=lambda event: None)
    longer = msgspec.structs.replace(spec, steps=4)
    with pytest.raises(SpecError, match="was trained on 2 datasets and 1 are given"):
        train(longer, two[0], tmp_path, report=lambda event: None)
    with pytest.raises(SpecError):
        train(longer, two[::-1], tmp_path, report=lambda event: None)
    train(longer, two, tmp_path, report=lambda event: None)
    assert len(read_metrics(tmp_path)) == 4


def test_a_resume_without_the_version_it_was_trained_on_says_what_to_do(
    two: list[str], tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    train(tiny_run(tiny_spec, steps=1), two[0], tmp_path, report=quiet)
    with pytest.raises(NotADataset, match=r"has no version .* checkpoint was trained on that version: give a copy"):
        train(tiny_run(tiny_spec, steps=2), two[1], tmp_path, report=quiet)
    with pytest.raises(NotADataset) as gone:
        train(tiny_run(tiny_spec, steps=1), str(tmp_path / "gone"), tmp_path / "fresh", report=quiet)
    assert "checkpoint" not in str(gone.value)
