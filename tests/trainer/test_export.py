"""Exports are read by plain transformers and peft in another process, equal the model, repeat, and are whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from shardkit import SpecError, open_dataset
from tests.trainer.exports import make_base, replace_weights, train_tiny
from tests.trainer.runs import quiet
from trainer.cli.main import app
from trainer.data.tokenise import load_speech
from trainer.digests import ExportDamaged
from trainer.export.command import ExportFailed, ExportJob, Form, export_run
from trainer.export.facts import flags_of
from trainer.export.find import find_trained, load_trained
from trainer.export.parts import open_export
from trainer.generate import open_model
from trainer.model.language import make_language
from trainer.spec import LanguageSpec, ModelSpec

PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
assert not any(name.split(".")[0] in ("trainer", "shardkit") for name in sys.modules)
torch.set_num_threads(1)
folder, base = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base or folder)
if base:
    from peft import PeftModel
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = PeftModel.from_pretrained(model, folder)
model.eval()
with torch.no_grad():
    logits = model(input_ids=torch.tensor([[5, 17, 33, 260, 299]])).logits
print(json.dumps({"logits": logits.float().flatten().tolist(), "dtype": str(next(model.parameters()).dtype),
                  "stops": model.generation_config.eos_token_id, "tokens": len(tokenizer)}))
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def base(room: Path) -> Path:
    return make_base(room / "base")


@pytest.fixture(scope="module")
def lora(room: Path, base: Path, tiny_spec: ModelSpec) -> Path:
    return train_tiny(room, tiny_spec, base, "lora")


@pytest.fixture(scope="module")
def dora(room: Path, base: Path, tiny_spec: ModelSpec) -> Path:
    return train_tiny(room, tiny_spec, base, "dora")


@pytest.fixture(scope="module")
def full(room: Path, base: Path, tiny_spec: ModelSpec) -> Path:
    return train_tiny(room, tiny_spec, base, "full")


def exported(run: Path, form: Form, out: Path, **more: Any) -> Path:
    export_run(ExportJob(folder=run, form=form, out=out, **more), quiet)
    return out


def plain(folder: Path, base: Path | str = "") -> dict[str, Any]:
    """What transformers alone finds in an export, in a process of its own."""
    command = [sys.executable, "-c", PLAIN, str(folder), str(base)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def own_logits(run: Path) -> torch.Tensor:
    model, _ = load_trained(find_trained(run, None, quiet))
    with torch.no_grad():
        logits: torch.Tensor = model.language(input_ids=torch.tensor([[5, 17, 33, 260, 299]])).logits
    return logits.flatten()


@pytest.mark.parametrize("how", ["lora", "dora", "full"])
def test_merged_is_the_model_in_plain_transformers(how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = request.getfixturevalue(how)
    found = plain(exported(run, "merged", tmp_path / "out"))
    assert torch.allclose(torch.tensor(found["logits"]), own_logits(run), atol=1e-5, rtol=0)
    assert found["tokens"] == 300
    assert found["stops"]


def test_adapter_is_the_model_in_plain_peft(lora: Path, base: Path, tmp_path: Path) -> None:
    found = plain(exported(lora, "adapter", tmp_path / "out"), base)
    assert torch.allclose(torch.tensor(found["logits"]), own_logits(lora), atol=1e-6, rtol=0)
    assert not torch.allclose(torch.tensor(plain(exported(lora, "merged", tmp_path / "merged"))["logits"]),
                              base_logits(base), atol=1e-3)  # fmt: skip


def base_logits(base: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base))
    model.resize_token_embeddings(300, mean_resizing=False)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([[5, 17, 33, 260, 299]])).logits
    return logits.flatten()


def test_merged_keeps_the_precision_of_its_base(room: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    half = make_base(room / "half", torch.bfloat16)
    folder = tmp_path / "own"
    folder.mkdir()
    run = train_tiny(folder, tiny_spec, half, "lora", dtype="bfloat16")
    found = plain(exported(run, "merged", tmp_path / "out"))
    assert found["dtype"] == "torch.bfloat16"
    assert torch.allclose(torch.tensor(found["logits"]), own_logits(run).float(), atol=0.1, rtol=0)


EXPORT_ALL = """
import sys
from trainer.cli.main import app
for form in ("adapter", "merged", "deploy"):
    app(["export", sys.argv[1], "--format", form, "--out", f"{sys.argv[2]}/{form}"], standalone_mode=False)
"""


def test_exporting_twice_gives_the_same_bytes(lora: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "2")):
        command = [sys.executable, "-c", EXPORT_ALL, str(lora), str(tmp_path / name)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert ended.returncode == 0, ended.stderr
    first, second = ({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*")
                      if p.is_file()} for name in ("a", "b"))  # fmt: skip
    assert first == second
    assert {f"{form}/omni/connectors.safetensors" for form in ("adapter", "merged", "deploy")} <= set(first)


def test_pretrained_eyes_that_only_a_stage_trained_are_carried(
    room: Path, base: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    vision = tiny_spec.vision
    assert vision is not None
    torch.manual_seed(2)
    eyes = tmp_path / "eyes"
    SiglipVisionModel(SiglipVisionConfig(**vision.config)).save_pretrained(str(eyes))
    seeing = msgspec.structs.replace(vision, pretrained=str(eyes), config={}, trainable=False)
    spec = msgspec.structs.replace(tiny_spec, vision=seeing)
    trainable = ["vision", "vision_connector", "adapters"]
    run = train_tiny(tmp_path, spec, base, "lora", trainable=trainable)
    out = exported(run, "merged", tmp_path / "out")
    shutil.rmtree(eyes)
    opened, _, record = open_export(out)
    assert record.encoders == ("vision", "audio")
    stored = load_file(run / "checkpoints" / "step-00000004" / "model.safetensors")
    own = opened.state_dict()
    compared = [name for name in stored if name.startswith("vision.")]
    assert len(compared) > 4
    assert all(torch.equal(own[name], stored[name]) for name in compared)


def test_weights_are_cut_into_files(lora: Path, tmp_path: Path) -> None:
    out = exported(lora, "merged", tmp_path / "out", shard_size="40KB")
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert torch.allclose(torch.tensor(plain(out)["logits"]), own_logits(lora), atol=1e-5, rtol=0)
    with pytest.raises(SpecError, match="language model"):
        exported(lora, "merged", tmp_path / "bad", shard_size="much")
    assert not (tmp_path / "bad").exists()


def test_what_cannot_be_exported_is_refused(
    lora: Path, full: Path, tiny_spec: ModelSpec, tmp_path: Path, room: Path
) -> None:
    with pytest.raises(SpecError, match="no adapters"):
        exported(full, "adapter", tmp_path / "out")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    with pytest.raises(SpecError, match="not an empty folder"):
        exported(lora, "merged", taken)
    with pytest.raises(SpecError, match="holds no run"):
        exported(tmp_path, "merged", tmp_path / "out")
    with pytest.raises(SpecError, match="is no folder"):
        exported(tmp_path / "absent", "merged", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (exported(lora, "merged", empty) / "config.json").is_file()


def test_a_failed_write_leaves_nothing(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.export.command.write_parts", fail)
    with pytest.raises(ExportFailed, match="No space left"):
        exported(lora, "merged", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_refused_with_the_newest_whole_one(lora: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(lora, run)
    newest = run / "checkpoints" / "step-00000004"
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(weights)
    with pytest.raises(SpecError, match=r"model.safetensors is not what .*newest whole one is .*step-00000002"):
        exported(run, "merged", tmp_path / "out", checkpoint=newest)
    warnings: list[str] = []
    trained = export_run(ExportJob(folder=run, form="merged", out=tmp_path / "out"), warnings.append)
    assert trained.progress.step == 2
    assert any("step-00000004" in text for text in warnings)


def test_the_card_says_what_the_data_are(lora: Path, room: Path, tmp_path: Path) -> None:
    card = (exported(lora, "deploy", tmp_path / "out", data=(str(room / "data"),)) / "README.md").read_text()
    dataset = open_dataset(room / "data")
    assert dataset.version in card
    for name, count in dataset.manifest.totals.by_source.items():
        assert f"| {name} | {count} |" in card
    assert "## Held-out figures" in card
    assert "| after |" in card
    assert "Missing" not in card
    assert json.loads((tmp_path / "out" / "serving.json").read_text())["stop_token_ids"]


def test_the_card_says_what_is_missing(lora: Path, tmp_path: Path) -> None:
    text = (exported(lora, "deploy", tmp_path / "a") / "README.md").read_text()
    assert "**Missing: sources, licences and counts.**" in text
    gone = (exported(lora, "deploy", tmp_path / "b", data=(str(tmp_path / "gone"),)) / "README.md").read_text()
    assert "this version cannot be read there" in gone
    with pytest.raises(SpecError, match="names 2 datasets"):
        exported(lora, "deploy", tmp_path / "c", data=("a", "b"))
    assert not (tmp_path / "c").exists()


def test_what_a_card_lacks_is_told(lora: Path, room: Path, tmp_path: Path) -> None:
    told: list[str] = []
    export_run(ExportJob(folder=lora, form="deploy", out=tmp_path / "a"), told.append)
    assert "lacks sources and licences" in told.pop()
    export_run(ExportJob(folder=lora, form="deploy", out=tmp_path / "b", data=(str(room / "data"),)), told.append)
    assert not told


@pytest.mark.parametrize(
    ("licence", "flags"),
    [
        ("cc-by-nc-sa-4.0", "non-commercial, share-alike"), ("CC BY-SA 4.0", "share-alike"), ("mit", ""),
        ("gpl-3.0-only", "share-alike"), ("GPLv3", "share-alike"), ("cc0-1.0", ""), ("cc-by-nd-4.0", "no derivatives"),
        ("", "not given: ask the source"), ("apache-2.0", ""), ("psf-2.0", ""),
    ],
)  # fmt: skip
def test_licences_are_flagged_by_name(licence: str, flags: str) -> None:
    assert flags_of(licence) == flags


def test_adapters_merge_through_an_unquantised_base(room: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="weights in 4 bits need bitsandbytes")
    base = make_base(room / "wide", width=64)  # its blocks of 64 weights do not cross rows
    run = train_tiny(room, tiny_spec, base, "qlora")
    found = plain(exported(run, "merged", tmp_path / "out"))
    assert found["dtype"] == "torch.float32"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    assert torch.allclose(torch.tensor(found["logits"]), own_logits(run), atol=1e-5, rtol=0)


FLIPPED = (
    ("merged", "model.safetensors"), ("merged", "config.json"), ("merged", "tokenizer.json"),
    ("merged", "omni/connectors.safetensors"), ("merged", "omni/config.json"), ("deploy", "README.md"),
    ("adapter", "adapter_model.safetensors"), ("adapter", "adapter_config.json"),
)  # fmt: skip


@pytest.fixture(scope="module")
def exports(lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for form in ("adapter", "merged", "deploy"):
        exported(lora, form, folder / form)
    return folder


@pytest.mark.parametrize(("form", "name"), FLIPPED)
def test_a_flipped_bit_in_any_file_of_an_export_is_refused_by_name(
    form: str, name: str, exports: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(exports / form, tmp_path / "out")
    listed = json.loads((out / "digests.json").read_text())["files"]
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert set(listed) == files - {"digests.json"}
    data = bytearray((out / name).read_bytes())
    data[-40] ^= 1  # within the last tensor, or a text
    (out / name).write_bytes(data)
    with pytest.raises(ExportDamaged, match=rf"{name} is altered: its digest is not the one in digests.json; copy"):
        open_export(out)
    (out / name).unlink()
    with pytest.raises(ExportDamaged, match=rf"{name} is missing, digests.json says"):
        open_export(out)


def test_a_damaged_export_ends_generate_with_exit_code_4_and_without_digests_it_is_taken_as_it_is(
    exports: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(exports / "merged", tmp_path / "out")
    data = bytearray((out / "model.safetensors").read_bytes())
    data[-40] ^= 1
    (out / "model.safetensors").write_bytes(data)
    ended = CliRunner().invoke(app, ["generate", str(out), "Which?", "--max-tokens", "2"])
    assert isinstance(ended.exception, ExportDamaged) and ended.exception.exit_code == 4
    assert "model.safetensors is altered" in str(ended.exception)
    (out / "digests.json").unlink()
    open_export(out)
    with pytest.raises(SpecError, match="take --checkpoint best out"):
        open_model(out, checkpoint="best")


def test_a_damaged_export_is_no_base_of_another_run_nor_its_tokeniser(exports: Path, tmp_path: Path) -> None:
    out = shutil.copytree(exports / "merged", tmp_path / "out")
    speech = load_speech(str(out))
    for name in ("model.safetensors", "tokenizer.json"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ExportDamaged, match=f"{name} is altered"):
            make_language(LanguageSpec(pretrained=str(out)), speech)
        if name == "tokenizer.json":
            with pytest.raises(ExportDamaged, match=f"{name} is altered"):
                load_speech(str(out))
        (out / name).write_bytes(whole)


def with_weights(run: Path, folder: Path, name: str, value: float) -> Path:
    """A copy of a run whose newest checkpoint holds a value in one tensor, and is whole."""
    shutil.copytree(run, folder)
    path = folder / "checkpoints" / "step-00000004"
    tensors = load_file(path / "model.safetensors")
    tensors[name].view(-1)[1] = value
    replace_weights(path, tensors)
    return folder


@pytest.mark.parametrize("form", ["adapter", "merged", "deploy"])
@pytest.mark.parametrize("part", ["vision_connector.", "language."])
def test_weights_that_are_not_finite_are_not_exported(form: Form, part: str, lora: Path, tmp_path: Path) -> None:
    stored = load_file(lora / "checkpoints" / "step-00000004" / "model.safetensors")
    name = next(name for name in stored if name.startswith(part) and ("lora" in name or "lang" not in name))
    run = with_weights(lora, tmp_path / "run", name, float("inf"))
    with pytest.raises(SpecError, match=rf"{re.escape(name)} holds numbers that are not finite .*--checkpoint best"):
        exported(run, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exported(run, form, tmp_path / "earlier", checkpoint=run / "checkpoints" / "step-00000002")


def test_the_best_checkpoint_is_exported_by_its_word(lora: Path, tmp_path: Path) -> None:
    run = shutil.copytree(lora, tmp_path / "run")
    (run / "eval.jsonl").write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 1.5}\n')
    command = ["export", str(run), "--checkpoint", "best", "--out", str(tmp_path / "out"), "--json"]
    ended = CliRunner().invoke(app, command)
    assert json.loads(ended.stdout)["step"] == 2, ended.output


def test_the_command_exports(lora: Path, tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["export", str(lora), "--out", str(tmp_path / "out"), "--json"])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout) == {
        "event": "done", "folder": str(tmp_path / "out"), "format": "merged", "step": 4,
    }  # fmt: skip
