"""The plan of a run: parameters, memory, arithmetic and data, without a weight and without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit import SpecError
from tests.trainer.datasets import build_small, generated, tiny_run
from trainer.data.tokenise import Speech
from trainer.model.meta import KNOWN, Shape, open_meta, shape_of
from trainer.model.omni import Omni
from trainer.plan import plan_run, plan_runs
from trainer.spec import ModelSpec, RunSpec, SpeedSpec, load_run, stage_runs

SPECS = Path(__file__).resolve().parents[2] / "specs" / "runs"


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the plan read weights")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", refuse)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_run_spec_of_the_project_and_each_of_its_profiles_has_a_plan_offline(path: Path) -> None:
    spec = load_run(path)
    for profile in ("", *spec.profiles):
        run = load_run(path, profile=profile)
        for plan in plan_runs(stage_runs(run) or (run,), ()):
            assert plan.trained > 0 and plan.memory.total > 0 and plan.flops_per_token > 0 and plan.data is None


def test_parameters_are_those_of_the_model(tiny_spec: ModelSpec, speech: Speech) -> None:
    spec = tiny_run(tiny_spec, trainable=["vision_connector", "language"], tokenizer={"vocabulary": speech.vocabulary})
    plan = plan_run(spec, ())
    model = Omni(spec.model, speech)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert {part.name: part.trained + part.frozen for part in plan.parts} == counts
    assert {part.name for part in plan.parts if part.trained} == {"vision_connector", "language"}
    assert plan.trained == counts["vision_connector"] + counts["language"]
    assert plan.memory.weights == 4 * sum(counts.values())
    assert (plan.memory.gradients, plan.memory.optimizer) == (4 * plan.trained, 8 * plan.trained)
    half = plan_run(msgspec.structs.replace(spec, dtype="bfloat16"), ())
    assert half.memory.weights == 4 * plan.trained + 2 * plan.frozen


def test_sizes_of_known_checkpoints_are_those_that_are_published() -> None:
    """Qwen2.5's and Whisper's cards; so400m without its pooling head."""
    counts = {}
    for name, wanted in (("1.5B", 1_543_714_304), ("7B", 7_615_616_512), ("0.5B", 494_032_768)):
        shape = open_shape(real(f"Qwen/Qwen2.5-{name}-Instruct"))
        counts[name] = sum(weights.number for weights in shape.parts["language"])
        assert counts[name] == wanted
    shape = open_shape(real("Qwen/Qwen2.5-0.5B"))
    assert sum(weights.number for weights in shape.parts["vision"]) == 413_534_448
    assert sum(weights.number for weights in shape.parts["audio"]) == 636_968_960
    assert [(sense.length, sense.width, sense.latents) for sense in shape.senses] == [
        (1024, 1152, 64),
        (1500, 1280, 64),
    ]


@pytest.mark.parametrize(("vision", "kind", "number", "length"), [
    ("openai/clip-vit-large-patch14", "clip", 303_179_776 - 2 * 1024, 256),
    ("openai/clip-vit-large-patch14-336", "clip", 303_507_456 - 2 * 1024, 576),
    ("openai/clip-vit-base-patch32", "clip", 87_456_000 - 2 * 768, 49),
    ("google/siglip2-so400m-patch16-naflex", "siglip2", 412_649_712, 256),
    ("google/siglip2-base-patch16-512", "siglip2", 590_592 + 1024 * 768 + 12 * 7_087_872 + 1_536, 1024),
])  # fmt: skip
def test_encoders_of_the_table_have_the_sizes_that_are_published(
    vision: str, kind: Any, number: int, length: int
) -> None:
    """Without the norm or head of what is pooled, which we do not load; summed by hand where no card says it."""
    raw = {
        "name": "x",
        "model": {"language": {"config": TINY}, "vision": {"pretrained": vision, "kind": kind, "depth": 1}},
    }
    shape = open_shape(msgspec.convert(raw, RunSpec))
    assert sum(weights.number for weights in shape.parts["vision"]) == number
    assert shape.senses[0].length == length


@pytest.mark.parametrize(("name", "number"), [
    ("tiny", 8_208_384), ("base", 20_590_592), ("small", 88_154_112), ("medium", 4_929_536 + 24 * 12_595_200 + 2_048),
])  # fmt: skip
def test_ears_of_the_table_have_the_sizes_that_are_published(name: str, number: int) -> None:
    audio = {"pretrained": f"openai/whisper-{name}", "depth": 1}
    shape = open_shape(msgspec.convert({"name": "x", "model": {"language": {"config": TINY}, "audio": audio}}, RunSpec))
    assert sum(weights.number for weights in shape.parts["audio"]) == number
    assert shape.senses[0].length == 1500


def test_the_config_of_naflex_in_a_folder_gives_the_same_plan(tmp_path: Path) -> None:
    from transformers import Siglip2VisionConfig

    name = "google/siglip2-base-patch16-naflex"
    Siglip2VisionConfig(**KNOWN[name]).save_pretrained(tmp_path)
    plans = [
        plan_run(msgspec.convert({"name": "x", "model": {"language": {"config": TINY}, "vision": {
            "pretrained": each, "kind": "siglip2", "depth": 1}}}, RunSpec), ())
        for each in (name, str(tmp_path))
    ]  # fmt: skip
    assert plans[0].parts == plans[1].parts and plans[0].flops_per_image == plans[1].flops_per_image > 0


TINY = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip


def open_shape(spec: RunSpec) -> Shape:
    return shape_of(open_meta(spec), spec)


def test_stages_do_not_leave_their_marks_on_the_next_one(tiny_spec: ModelSpec) -> None:
    stages = [{"name": "a", "trainable": ["language"]}, {"name": "b"}]
    first, second = plan_runs(stage_runs(tiny_run(tiny_spec, stages=stages)), ())
    assert first.trained < second.trained == plan_run(tiny_run(tiny_spec), ()).trained


def real(language: str) -> RunSpec:
    raw = {
        "name": "real", "tokenizer": {"pretrained": language}, "dtype": "bfloat16",
        "model": {
            "vision": {"pretrained": "google/siglip2-so400m-patch16-512", "depth": 1},
            "audio": {"pretrained": "openai/whisper-large-v3-turbo", "depth": 1},
            "language": {"pretrained": language, "train": "lora"},
        },
    }  # fmt: skip
    return msgspec.convert(raw, RunSpec)


def test_operations_a_token_count_frozen_weights_four_times_and_trained_ones_six_times() -> None:
    plan = plan_run(real("Qwen/Qwen2.5-1.5B"), ())
    adapters = next(part for part in plan.parts if part.name == "adapters")
    assert plan.flops_per_token == pytest.approx(4 * 1_543_714_304 + 6 * adapters.trained, rel=1e-3)
    assert plan.flops_per_image == pytest.approx(0.97e12 + 3 * 13.4e9, rel=0.1)  # forward only: the tower is frozen
    assert plan.flops_per_window == pytest.approx(2.27e12, rel=0.1)


def test_four_bits_and_recomputed_layers_take_less(tiny_spec: ModelSpec) -> None:
    spec = msgspec.structs.replace(real("Qwen/Qwen2.5-1.5B"), speed=SpeedSpec(loss_chunk=256))  # logits take little
    language = msgspec.structs.replace(spec.model.language, train="qlora")
    model = msgspec.structs.replace(spec.model, language=language, checkpointing=True)
    before, after = plan_run(spec, ()), plan_run(msgspec.structs.replace(spec, model=model), ())
    sizes = [next(part for part in plan.parts if part.name == "language").weight_bytes for plan in (before, after)]
    embeddings = 151936 * 1536
    assert sizes[0] == 2 * 1_543_714_304
    assert sizes[1] == pytest.approx(2 * embeddings + 0.516 * (1_543_714_304 - embeddings), rel=1e-3)
    assert (before.trained, before.flops_per_token) == (after.trained, after.flops_per_token)
    assert after.memory.activations < before.memory.activations / 3


def test_an_unknown_checkpoint_says_that_its_config_is_needed_and_a_folder_has_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model.language.pretrained: cannot read a config .*needs its config.json"):
        plan_run(real(str(tmp_path / "nothing")), ())
    from transformers import Qwen2Config

    fields = {name: value for name, value in KNOWN["Qwen/Qwen2.5-0.5B"].items() if name != "model_type"}
    Qwen2Config(**fields).save_pretrained(tmp_path / "qwen")
    spec = real("Qwen/Qwen2.5-0.5B")
    language = msgspec.structs.replace(spec.model.language, pretrained=str(tmp_path / "qwen"))
    local = msgspec.structs.replace(spec, model=msgspec.structs.replace(spec.model, language=language))
    assert plan_run(local, ()).parts == plan_run(spec, ()).parts


def test_data_give_samples_epochs_and_shares(dataset: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    plan = plan_run(
        tiny_run(tiny_spec, steps=18, data={"max_tokens": 128, "where": "modality~image|audio"}), str(dataset)
    )
    assert plan.data and (plan.data.samples, plan.data.epochs) == (24, 3.0)
    assert plan.batch_tokens == 4 * 128
    other = build_small(tmp_path / "notes", generated("notes", "notes", "question_answer", 9))
    plan = plan_run(tiny_run(tiny_spec), [f"3={dataset}", f"1={other}"])
    assert plan.data and [(each.samples, each.weight) for each in plan.data.sources] == [(36, 0.75), (9, 0.25)]
    by_size = plan_run(tiny_run(tiny_spec), [str(dataset), str(other)])
    assert by_size.data and [each.weight for each in by_size.data.sources] == [0.8, 0.2]
    flat = plan_run(tiny_run(tiny_spec, data={"mix": {"temperature": 1e9}}), [str(dataset), str(other)])
    assert flat.data and [each.weight for each in flat.data.sources] == pytest.approx([0.5, 0.5])
    packed = plan_run(tiny_run(tiny_spec, data={"max_tokens": 128, "pack": {"tokens": 512}}), str(dataset))
    assert packed.data and packed.data.epochs is None and packed.batch_tokens == 4 * 512


def test_the_command_prints_a_plan_for_every_stage_and_trains_nothing(
    dataset: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    stages = [{"name": "see", "steps": 2, "trainable": ["vision_connector"], "data": {"where": "modality~image"}},
              {"name": "say", "steps": 3}]  # fmt: skip
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_bytes(msgspec.yaml.encode(tiny_run(tiny_spec, stages=stages)))
    line = [sys.executable, "-m", "trainer", "train", str(path), "--data", str(dataset), "--out", str(out), "--dry-run"]
    done = subprocess.run([*line, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    assert event["event"] == "plan"
    assert [(plan["name"], plan["steps"], plan["where"]) for plan in event["plans"]] == [
        ("tiny-see", 2, "modality~image"), ("tiny-say", 3, "")]  # fmt: skip
    assert event["plans"][0]["data"]["samples"] == 12
    text = subprocess.run(line, capture_output=True, text=True).stdout
    for piece in (
        "tiny-see: 2 steps",
        "memory a device:",
        "GFLOP a token",
        "12 samples where modality~image",
        "epochs",
    ):
        assert piece in text
    assert not out.exists()
