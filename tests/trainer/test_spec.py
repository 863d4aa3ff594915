"""Run specs refuse typos and impossible values, and say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardkit import SpecError
from trainer.spec import load_run, spec_digest_fields, without_secrets

SPECS = Path(__file__).resolve().parents[2] / "specs" / "runs"
MINIMAL = "name: x\nmodel: {language: {pretrained: somewhere}}\nprofiles: {long: {steps: 7, optimizer.rate: 1.0e-5}}\n"


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_run_spec_of_the_project_loads_with_each_profile(path: Path) -> None:
    spec = load_run(path)
    for profile in spec.profiles:
        load_run(path, profile=profile)


def test_profiles_and_then_settings_override_fields(spec_file: Path) -> None:
    assert load_run(spec_file).steps == 100
    long = load_run(spec_file, profile="long")
    assert (long.steps, long.optimizer.rate) == (7, 1e-5)
    assert load_run(spec_file, {"optimizer.rate": "1e-3"}).optimizer.rate == 1e-3
    assert load_run(spec_file, {"steps": "9", "data.max_tokens": "64"}, "long").steps == 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepps": "3"}, "unknown field `stepps`"),
        ({"optimizer.ratte": "3"}, "unknown field `ratte`"),
        ({"steps": "0"}, "steps is 0; at least 1"),
        ({"steps": "many"}, "Expected `int`, got `str`"),
        ({"batch_size": "10", "accumulate": "4"}, "not a multiple"),
        ({"data.held_out": "1.5"}, "held_out is 1.5"),
        ({"model.language.config.model_type": "llama"}, "give either"),
        ({"model.vision": "{pretrained: a, latents: 0}"}, "latents is 0"),
        ({"name.first": "a"}, "has no fields"),
        ({"optimizer.betas": "[1.5, 2]"}, "betas must be"),
        ({"eval.samples": "-1"}, "eval.samples is -1"),
        ({"tokenizer.samples": "0"}, "tokenizer.samples is 0"),
        ({"name": "[unclosed"}, "not valid YAML"),
    ],
)
def test_mistakes_are_named(spec_file: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        load_run(spec_file, settings)


def test_a_missing_file_and_an_unknown_profile_are_named(spec_file: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the run spec"):
        load_run(spec_file.with_name("none.yaml"))
    with pytest.raises(SpecError, match="no profile 'huge'; there are: long"):
        load_run(spec_file, profile="huge")


def test_a_run_s_kept_spec_holds_no_secret_of_a_url(spec_file: Path) -> None:
    url = "https://user:canary@host/data?token=canary"
    spec = load_run(spec_file, {"data.datasets": f"[{{url: '{url}', weight: 2}}, {{url: plain}}]"})
    kept = without_secrets(spec)
    assert [source.url for source in spec.data.datasets] == [url, "plain"]
    assert [(source.url, source.weight) for source in kept.data.datasets] == [("https://host/data", 2), ("plain", None)]


def test_how_a_run_fetches_is_free_when_it_is_resumed(spec_file: Path) -> None:
    first = spec_digest_fields(load_run(spec_file))
    again = load_run(spec_file, {"data.cache": "/elsewhere", "data.cache_bytes": "1000", "data.decoders": "3"})
    assert spec_digest_fields(again) == first
    assert spec_digest_fields(load_run(spec_file, {"data.max_tokens": "64"})) != first
