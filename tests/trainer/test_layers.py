"""Where settings come from: each layer holds over those before it, and every value names the one that it is from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainer.spec.layers as layers
from shardkit import SpecError, convert_spec
from trainer.spec import RunSpec, load_run, resolve_run, settings_path
from trainer.spec.layers import OF_A_MACHINE, leaves, shared_profiles

MINIMAL: dict[str, Any] = {"name": "x", "model": {"language": {"pretrained": "somewhere"}}}
LAYERS = ("user", "shared", "spec", "own", "set")


def resolve(folder: Path, given_layers: Mapping[str, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose layers set the given fields."""
    path, user, shared = folder / "run.yaml", folder / "settings.yaml", folder / "profiles.yaml"
    user.write_bytes(msgspec.yaml.encode(dict(given_layers.get("user", {}))))
    shared.write_bytes(msgspec.yaml.encode({"p": dict(given_layers.get("shared", {}))}))
    raw = json.loads(json.dumps(MINIMAL))
    for dotted, value in given_layers.get("spec", {}).items():
        *parents, last = dotted.split(".")
        here = raw
        for name in parents:
            here = here.setdefault(name, {})
        here[last] = value
    raw["profiles"] = {"p": dict(given_layers.get("own", {}))}
    path.write_bytes(msgspec.yaml.encode(raw))
    monkeypatch.setattr(layers, "profiles_path", lambda: shared)
    settings = {dotted: json.dumps(value) for dotted, value in given_layers.get("set", {}).items()}
    return resolve_run(path, settings, "p", user)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            layer: st.dictionaries(st.sampled_from(["threads", "data.prefetch", "data.decoders"]), st.integers(1, 99))
            for layer in LAYERS
        },
    )
)
def test_the_last_layer_that_says_a_value_gives_it_and_is_named(
    tmp_path_factory: pytest.TempPathFactory, given_layers: dict[str, dict[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = resolve(tmp_path_factory.mktemp("layers"), given_layers, patch)
    values = {dotted: (value, origin) for dotted, value, origin in found.rows()}
    names = {"user": "your settings (", "shared": "specs/profiles.yaml, p", "own": ", profile p", "set": "--set"}
    for dotted, default in (("threads", 1), ("data.prefetch", 2), ("data.decoders", 1)):
        last = next((layer for layer in reversed(LAYERS) if dotted in given_layers.get(layer, {})), None)
        value, origin = values[dotted]
        assert value == (given_layers[last][dotted] if last else default)
        if last is None:
            assert origin == "default"
        elif last == "spec":
            assert origin.endswith("run.yaml")
        else:
            assert names[last] in origin


def test_a_mapping_that_a_layer_replaces_takes_its_fields_origins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"model.language": {"config": {"model_type": "llama", "hidden_size": 16}}}
    found = resolve(tmp_path, {"own": own, "set": {"model.language.config.hidden_size": 32}}, monkeypatch)
    rows = {dotted: (value, origin) for dotted, value, origin in found.rows()}
    assert rows["model.language.config.hidden_size"] == (32, "--set")
    assert rows["model.language.config.model_type"][1].endswith(", profile p")
    assert rows["model.language.pretrained"] == ("", "default")
    assert found.spec.profiles["p"]["model.language"]["config"]["hidden_size"] == 16  # not changed by what came after


def test_user_settings_may_only_say_how_a_machine_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(tmp_path, {"user": {"data": {"cache": "/c"}, "device": "cpu"}}, monkeypatch)
    assert (found.spec.data.cache, found.spec.device) == ("/c", "cpu")
    for wrong in ("seed", "optimizer.rate", "stepps"):
        with pytest.raises(SpecError, match=f"settings.yaml: {wrong} cannot be set for all runs"):
            resolve(tmp_path, {"user": {wrong: 1}}, monkeypatch)
    with pytest.raises(SpecError, match=r"Expected `int`, got `str`"):
        resolve(tmp_path, {"user": {"threads": "many"}}, monkeypatch)


def test_every_field_that_user_settings_may_hold_is_one_of_a_run() -> None:
    fields = {dotted for dotted, _ in leaves(msgspec.to_builtins(convert_spec(MINIMAL, RunSpec, "test")))}
    assert set(OF_A_MACHINE) <= fields


def test_a_file_of_user_settings_need_not_exist_and_the_library_reads_none(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(MINIMAL))
    assert resolve_run(path, user=tmp_path / "none.yaml").spec == load_run(path)


@pytest.mark.parametrize("text", ["", "\n", "# device: cuda\n\n  # threads: 4\n"])
def test_user_settings_that_were_all_taken_back_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(MINIMAL))
    (tmp_path / "settings.yaml").write_text(text)
    assert resolve_run(path, user=tmp_path / "settings.yaml").spec == load_run(path)


def test_the_environment_names_the_file_of_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARDKIT_SETTINGS", raising=False)
    usual = settings_path()
    assert usual and usual.name == "settings.yaml" and "shardkit" in usual.parent.name
    monkeypatch.setenv("SHARDKIT_SETTINGS", str(tmp_path / "a.yaml"))
    assert settings_path() == tmp_path / "a.yaml"
    monkeypatch.setenv("SHARDKIT_SETTINGS", "")
    assert settings_path() is None


def test_shared_profiles_fit_any_run_and_default_is_the_trainer_s_own(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(MINIMAL))
    assert set(shared_profiles()) == {"default", "vision-language", "diffusion", "llm-finetuning"}
    plain = load_run(path)
    for name in shared_profiles():
        assert (load_run(path, profile=name) == plain) == (name == "default"), name
    assert load_run(path, {"profile": "llm-finetuning"}) == load_run(path, profile="llm-finetuning")
    both = load_run(path, {"profile": "diffusion"}, "llm-finetuning")  # the later one holds
    assert (both.optimizer.floor, both.data.max_tokens) == (1.0, 4096)


def test_profiles_are_found_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "trainer"
    (package / "spec").mkdir(parents=True)
    monkeypatch.setattr(layers, "__file__", str(package / "spec" / "layers.py"))
    assert shared_profiles() == {}
    (package / "profiles.yaml").write_text("mine: {seed: 9}\n")
    assert shared_profiles() == {"mine": {"seed": 9}}
    (package / "profiles.yaml").write_text("mine: 9\n")
    with pytest.raises(SpecError, match="the profile 'mine' is 9; wanted a mapping"):
        shared_profiles()


def test_an_unknown_profile_names_those_of_the_spec_and_those_of_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(msgspec.yaml.encode({**MINIMAL, "profiles": {"mine": {"seed": 1}}}))
    with pytest.raises(SpecError, match=r"no profile 'mien'; there are: mine; for all runs: default, diffusion"):
        load_run(path, profile="mien")


def test_the_command_shows_every_value_and_its_origin(tmp_path: Path) -> None:
    path, user = tmp_path / "run.yaml", tmp_path / "settings.yaml"
    path.write_bytes(msgspec.yaml.encode(MINIMAL))
    user.write_text("data: {decoders: 3}\n")
    line = [sys.executable, "-m", "trainer", "config", str(path), "--profile", "diffusion", "--set", "seed=4"]
    environment = {"SHARDKIT_SETTINGS": str(user), "PYTHONPATH": str(Path(layers.__file__).parents[2]), "PATH": ""}
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert settings["seed"] == {"value": 4, "from": "--set"}
    assert settings["data.decoders"] == {"value": 3, "from": f"your settings ({user})"}
    assert settings["optimizer.floor"] == {"value": 1.0, "from": "specs/profiles.yaml, diffusion"}
    assert settings["name"] == {"value": "x", "from": str(path)}
    assert settings["threads"] == {"value": 1, "from": "default"}
    table = subprocess.run(line, capture_output=True, text=True, env=environment).stdout.splitlines()
    assert any(row.split() == ["seed", "4", "--set"] for row in table)
    assert table[-1] == f"your settings: {user}"
