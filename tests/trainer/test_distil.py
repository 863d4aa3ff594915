"""Distillation: the divergence by hand, a teacher from a folder or a run, and what does not fit it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from shardkit import SpecError
from tests.trainer.answers import batch_of, conversation, gradients, learn, mean_of, teaching, text_model
from trainer.checkpoint import load_model, model_tensors
from trainer.data.collate import TrainBatch, collate_packs
from trainer.data.media import Senses
from trainer.data.tokenise import Speech, train_speech
from trainer.losses.distil import DistilLoss, divergence
from trainer.losses.sft import SftLoss
from trainer.model.omni import Omni
from trainer.objective import open_loss, teacher_spec
from trainer.spec import DistilSpec, LanguageSpec, LossSpec, ModelSpec, RunSpec

ASKED = (("user", "Which one?"), ("assistant", "red green")), (("user", "the sky"), ("assistant", "blue"))


@pytest.fixture(scope="module")
def speech() -> Speech:
    return teaching("answers")


@pytest.fixture(scope="module")
def teacher(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    text_model(speech, seed=7, hidden=48).language.save_pretrained(folder)
    speech.save(folder)
    return folder


def run_spec(teacher: Path | str, **fields: Any) -> RunSpec:
    loss = LossSpec(name="distil", distil=DistilSpec(teacher=str(teacher), **fields))
    return RunSpec(name="x", model=ModelSpec(language=LanguageSpec(pretrained="unused")), loss=loss)


def opened(teacher: Path, model: Omni, speech: Speech, folder: Path, **fields: Any) -> DistilLoss:
    loss = open_loss(run_spec(teacher, **fields), model, speech, folder)
    assert isinstance(loss, DistilLoss)
    return loss


def conversations(speech: Speech) -> TrainBatch:
    return batch_of(speech, [conversation(*turns) for turns in ASKED])


@pytest.mark.parametrize(("direction", "wanted"), [
    ("forward", 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)),
    ("reverse", 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)),
])  # fmt: skip
def test_the_divergence_has_the_value_of_its_formula(direction: Any, wanted: float) -> None:
    spec = DistilSpec(teacher="x", temperature=2.0, direction=direction)
    found = divergence(torch.tensor([[1.0, 1.0]]), torch.tensor([[2 * math.log(3.0), 0.0]]), spec)
    assert float(found) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("chunk", [0, 3])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_divergence_from_the_teacher_falls(
    direction: str, chunk: int, speech: Speech, teacher: Path, tmp_path: Path
) -> None:
    model = text_model(speech)
    model.loss_chunk = chunk
    loss = opened(teacher, model, speech, tmp_path, alpha=1.0, direction=direction)
    found = learn(model, loss, conversations(speech), 60)
    assert mean_of(found[-1][1], "kl") < 0.1 * mean_of(found[0][1], "kl")


def test_alpha_mixes_with_the_loss_of_the_labels(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model, batch = text_model(speech), conversations(speech)
    hard, _ = SftLoss(LossSpec())(model, batch)
    values = {
        alpha: opened(teacher, model, speech, tmp_path, alpha=alpha, temperature=1.5)(model, batch)
        for alpha in (0.0, 0.25, 1.0)
    }
    soft = values[1.0][1].extra["kl"][0] * 1.5**2
    assert float(values[0.0][0].detach()) == pytest.approx(float(hard.detach()), rel=1e-5)
    assert float(values[1.0][0].detach()) == pytest.approx(soft, rel=1e-5)
    assert float(values[0.25][0].detach()) == pytest.approx(0.25 * soft + 0.75 * float(hard.detach()), rel=1e-5)


def test_a_batch_is_overfitted_by_its_labels_too(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech)
    loss = opened(teacher, model, speech, tmp_path, alpha=0.1)
    found = learn(model, loss, conversations(speech), 60)
    assert mean_of(found[-1][1], "hard_loss") < 0.2 * mean_of(found[0][1], "hard_loss")


def test_vectors_come_closer_behind_a_learned_projection(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech)
    loss = opened(teacher, model, speech, tmp_path, alpha=0.0, features=10.0, projection="learned")
    began = dict(model.named_parameters())["distil_projection.weight"].detach().clone()
    found = learn(model, loss, conversations(speech), 60)
    assert found[-1][0] < 0.5 * found[0][0]
    assert not torch.equal(dict(model.named_parameters())["distil_projection.weight"].detach(), began)


def test_vectors_of_another_width_want_a_projection(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"32 wide, the teacher's 48; set loss.distil.projection=learned"):
        opened(teacher, text_model(speech), speech, tmp_path, features=1.0)


def test_the_same_model_as_teacher_has_no_divergence(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech, seed=7, hidden=48)
    loss = opened(teacher, model, speech, tmp_path, features=1.0)
    _, parts = loss(model, conversations(speech))
    assert mean_of(parts, "kl") == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_is_frozen_and_no_part_of_the_model(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech)
    names = {name for name, _ in model.named_parameters()}
    state = torch.get_rng_state()
    loss = opened(teacher, model, speech, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name for name, _ in model.named_parameters()} == names
    assert not loss.teacher.training and not any(p.requires_grad for p in loss.teacher.parameters())


def test_another_tokeniser_is_refused(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    other = train_speech(["quite other words in here"], 320)
    with pytest.raises(SpecError, match=r"has another tokeniser: .* tokens differ.*set tokenizer.pretrained"):
        opened(teacher, text_model(other), other, tmp_path)


def test_a_teacher_that_is_not_there_is_named(speech: Speech, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"loss.distil.teacher {tmp_path / 'nowhere'}"):
        opened(tmp_path / "nowhere", text_model(speech), speech, tmp_path)


def test_a_fusion_model_teaches_nothing_and_it_is_said_why(speech: Speech, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"name": "x", "model": {"kind": "fusion", "fusion": {}}}')
    for asked in (
        lambda: opened(tmp_path, text_model(speech), speech, tmp_path),
        lambda: teacher_spec(run_spec(tmp_path)),
    ):
        with pytest.raises(SpecError, match=r"model of kind fusion, which has no language model .* of kind omni"):
            asked()


def test_splits_of_a_step_and_packs_give_the_same_gradients(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech)
    loss = opened(teacher, model, speech, tmp_path)
    samples = [conversation(*turns) for turns in ASKED]
    rows = [(str(at), speech.encode(sample, (), Senses(), 200)) for at, sample in enumerate(samples)]
    whole = gradients(model, loss, [conversations(speech)])
    split = gradients(model, loss, [batch_of(speech, [sample]) for sample in samples])
    packed = gradients(model, loss, [collate_packs([rows], Senses(), speech.pad_id)])
    for found in (split, packed):
        assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in whole.items())


def test_inner_layers_come_closer_each_behind_a_projection_of_its_own(
    speech: Speech, teacher: Path, tmp_path: Path
) -> None:
    model, batch = text_model(speech), conversations(speech)
    pairs = {"layers": ((1, 2), (2, 1)), "projection": "learned"}
    loss = opened(teacher, model, speech, tmp_path, alpha=0.0, layer_features=10.0, **pairs)
    assert [each.weight.shape for each in model.distil_layers] == [(48, 32)] * 2  # type: ignore[union-attr]
    found = learn(model, loss, batch, 60)
    assert mean_of(found[-1][1], "layer_distance") < 0.3 * mean_of(found[0][1], "layer_distance")
    without = text_model(speech)
    plain = opened(teacher, without, speech, tmp_path / "plain", alpha=0.0, layer_features=0.0, **pairs)
    kept = learn(without, plain, batch, 60)
    assert mean_of(kept[-1][1], "layer_distance") > 0.8 * mean_of(kept[0][1], "layer_distance")


def test_the_vectors_of_a_layer_are_those_that_the_layer_gives(speech: Speech) -> None:
    model, batch = text_model(speech), conversations(speech)
    seen: list[torch.Tensor] = []
    trunk: Any = model.language.model
    trunk.layers[0].register_forward_hook(lambda module, given, output: seen.append(output))
    last, first, second = model.layered(batch, (1, 2))
    assert torch.equal(first, seen[0]) and torch.equal(second, last)
    assert torch.equal(last, model.hidden(batch))


def test_a_model_like_its_teacher_has_no_distance_in_any_layer(speech: Speech, teacher: Path, tmp_path: Path) -> None:
    model = text_model(speech, seed=7, hidden=48)
    loss = opened(teacher, model, speech, tmp_path, layers=((1, 1), (2, 2)))
    assert not hasattr(model, "distil_layers")
    assert mean_of(loss(model, conversations(speech))[1], "layer_distance") == pytest.approx(0.0, abs=1e-8)
    crossed = opened(teacher, model, speech, tmp_path, layers=((1, 2),))
    assert mean_of(crossed(model, conversations(speech))[1], "layer_distance") > 0.01


@pytest.mark.parametrize(("layers", "message"), [
    (((3, 1),), r"names layer 3 of the model, which has 2"),
    (((1, 9),), r"names layer 9 of the teacher, which has 2"),
    (((1, 1),), r"32 wide, the teacher's 48; set loss.distil.projection=learned, or loss.distil.layers=\[\]"),
])  # fmt: skip
def test_layers_that_are_not_there_or_of_another_width_are_refused(
    layers: Any, message: str, speech: Speech, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        opened(teacher, text_model(speech), speech, tmp_path, layers=layers)


def test_projections_are_stored_and_a_checkpoint_loads_without_them(
    speech: Speech, teacher: Path, tmp_path: Path
) -> None:
    model = text_model(speech)
    opened(teacher, model, speech, tmp_path, layers=((1, 1),), projection="learned")
    stored = model_tensors(model)
    assert "distil_layers.0.weight" in stored
    (tmp_path / "step").mkdir()
    save_file(stored, tmp_path / "step" / "model.safetensors")
    plain = text_model(speech, seed=3)
    load_model(tmp_path / "step", plain)
    assert all(torch.equal(value, stored[name]) for name, value in plain.named_parameters())
