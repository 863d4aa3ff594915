"""What cannot be trained is refused before anything is loaded, in a plan and in a run, with what to do instead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from shardkit import SpecError
from tests.trainer.datasets import build_small, generated, mixed, tiny_run
from trainer.checks import check_data, check_runs, check_settings, device_warnings, short_warnings
from trainer.plan import plan_run
from trainer.spec import LossSpec, ModelSpec, RunSpec

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(tmp_path_factory.mktemp("data") / "mixed", each=6)


@pytest.fixture(scope="module")
def preferring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few preferences behind many other samples."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pairs.jsonl").write_text('{"prompt": "Which?", "chosen": "red", "rejected": "blue"}\n')
    pairs = {"kind": "jsonl", "name": "pairs", "path": str(folder / "pairs.jsonl"), "normalizer": "preference",
             "domain": "test"}  # fmt: skip
    return build_small(folder / "data", generated("notes", "notes", "question_answer", 30), pairs)


def text_run(tiny: ModelSpec, **more: Any) -> RunSpec:
    return tiny_run(ModelSpec(language=tiny.language), **more)


@pytest.mark.parametrize(("more", "ranks", "message"), [
    ({"batch_size": 6, "accumulate": 2}, 2, r"3 a part, which 2 processes cannot share evenly; .* multiple of 4"),
    ({"parallel": "none"}, 2, r"parallel is none and there are 2 processes"),
    ({"parallel": "fsdp", "optimizer": {"kind": "adamw8bit", "warmup": 2}}, 2, r"adamw8bit, which cannot be cut up"),
    ({"batch_size": 1, "loss": {"name": "kto"}}, 1, r"a part of a step has 1 sample"),
    ({"batch_size": 2, "loss": {"name": "kto"}}, 2, r"each of 2 processes has 1 sample of a part"),
    ({"loss": {"name": "dpo"}, "data": {"pack": {"tokens": 2048}}}, 1, r"data.pack is given: dpo compares whole rows"),
    ({"data": {"max_tokens": 4096}}, 1, r"data.max_tokens is 4096; the language model takes 2048 at most"),
])  # fmt: skip
def test_settings_that_do_not_go_together_have_no_plan(
    more: dict[str, Any], ranks: int, message: str, tiny_spec: ModelSpec
) -> None:
    with pytest.raises(SpecError, match=message):
        plan_run(text_run(tiny_spec, **more), (), ranks)


def test_a_run_that_ends_while_it_warms_up_is_told(tiny_spec: ModelSpec) -> None:
    for warmup, told in ((7, True), (6, False)):
        found = short_warnings(text_run(tiny_spec, steps=6, optimizer={"warmup": warmup}))
        assert [f"optimizer.warmup is {warmup} and steps 6" in text for text in found] == [True] * told


def test_the_same_settings_with_what_the_message_advises_are_taken(tiny_spec: ModelSpec) -> None:
    check_settings(text_run(tiny_spec, batch_size=8, accumulate=2), 2)
    check_settings(text_run(tiny_spec, batch_size=4, loss={"name": "kto"}), 2)


def test_patches_that_leave_pixels_over_are_refused_and_the_advice_is_taken(tiny_spec: ModelSpec) -> None:
    assert tiny_spec.vision

    def sized(size: int) -> RunSpec:
        config = {**tiny_spec.vision.config, "image_size": size}  # type: ignore[union-attr]
        return tiny_run(
            msgspec.structs.replace(tiny_spec, vision=msgspec.structs.replace(tiny_spec.vision, config=config))
        )

    with pytest.raises(SpecError, match=r"image_size is 40 and patch_size 16: 8 pixels .* set image_size to 32 or 48"):
        check_settings(sized(40))
    for size in (32, 48):
        check_settings(sized(size))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_plan_warns_and_a_run_refuses(tiny_spec: ModelSpec) -> None:
    spec = text_run(tiny_spec, device="cuda")
    assert "torch finds no GPU" in device_warnings(spec)[0]
    assert plan_run(spec, ()).warnings == device_warnings(spec)
    with pytest.raises(SpecError, match=r"device is cuda and torch finds no GPU; use device=cpu"):
        check_runs((spec,), ())
    assert not plan_run(text_run(tiny_spec), ()).warnings


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_data_without_preferences_are_refused_where_answers_are_compared(
    name: Any, tiny_spec: ModelSpec, dataset: Path, preferring: Path
) -> None:
    spec = msgspec.structs.replace(text_run(tiny_spec), loss=LossSpec(name=name))
    with pytest.raises(SpecError, match=rf"loss.name is {name}.* none of the 18 samples .* normaliser `preference`"):
        plan_run(spec, str(dataset))
    check_data(spec, str(preferring))
    check_data(spec, [str(dataset), str(preferring)])
    elsewhere = msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, where="source=notes"))
    with pytest.raises(SpecError, match=r"30 samples where source=notes"):
        check_data(elsewhere, str(preferring))
    check_data(text_run(tiny_spec), str(dataset))  # others do not look


@pytest.fixture
def command(tiny_spec: ModelSpec, tmp_path: Path) -> Command:
    path = tmp_path / "run.yaml"

    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        path.write_bytes(msgspec.yaml.encode(text_run(tiny_spec, **more)))
        line = [sys.executable, "-m", "trainer", "train", str(path), "--out", str(tmp_path / "out"), *arguments]
        return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "WORLD_SIZE": "1"})

    return run


def test_a_chain_is_refused_for_its_last_stage_before_the_first_is_trained(
    command: Command, dataset: Path, tmp_path: Path
) -> None:
    stages = [{"name": "tune", "steps": 2}, {"name": "prefer", "steps": 2, "loss": {"name": "dpo"}}]
    done = command("--data", str(dataset), stages=stages)
    assert done.returncode == 2 and "loss.name is dpo, which compares answers" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_steps_that_are_said_twice_must_be_the_same(command: Command, dataset: Path) -> None:
    done = command("--steps", "3", "--set", "steps=4", "--dry-run")
    assert done.returncode == 2 and "--steps 3 and --set steps=4 say different things" in done.stderr
    done = command("--steps", "4", "--set", "steps=4", "--dry-run", "--processes", "2")
    assert done.returncode == 0 and "4 steps" in done.stdout
